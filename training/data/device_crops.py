"""Training crops that the accelerator cuts, augments and degrades by itself, from pages that it keeps.

Only the random numbers are drawn by the processor, by the same functions as in `page_crops`. Shapes: N pages, H, W
their size, B batch, S side of a crop.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from tadisr.data_synthesis.degrade import draw_plan
from tadisr.data_synthesis.degrade.batched import degrade_batch, histogram, resizing
from tadisr.data_synthesis.degrade.steps import Step
from tadisr.data_synthesis.tones import MOST_GAIN, PERCENTILES, Tones
from tadisr.io.images import LUMA
from tadisr.training.data.mask_prompts import Drawing, draw_prompt, plan_drawing
from tadisr.training.data.page_crops import ConcatPages, Cropping, Look, draw_look

_GRID = 8  # pixels: how exactly the share of text in a crop is known


class DeviceCrops:
    """Batches of random crops of FTSR pages, each with a freshly drawn degradation.

    Batch i depends on (seed, i) alone, on the same kind of device. Each: hr (B, 3, S, S), lr (B, 3, S/scale, S/scale),
    mask (B, 1, S, S), float32 in [0, 1], has_mask (B,), index (B,) and name of the pages, and where the cropping has a
    share of prompts, mask_prompt (B, 2, S, S).

    Args:
        pages: all are read at once, 1 MiB each for 512 pixels.
        cropping: how a crop is cut; its degradation must be drawn anew.
        batch_size, seed, device: of the batches.

    Raises:
        ValueError: pages of different sizes, or smaller than a crop; stored degradation.
    """

    def __init__(self, pages: ConcatPages, cropping: Cropping, batch_size: int, seed: int, device: torch.device | str):
        if cropping.degradation is None:
            raise ValueError("device_pages draws degradations anew: set degradation to real-esrgan, mild or wide.")
        self.cropping, self.batch_size, self.seed, self.device = cropping, batch_size, seed, torch.device(device)
        size, self.zooms = cropping.size, None
        if cropping.augmentation:
            zooms = np.zeros((size - round(size / cropping.max_zoom) + 1, size, size), np.float32)
            for i, matrix in enumerate(zooms):
                matrix[:, : size - i] = resizing(size - i, size, "bicubic")
            self.zooms = torch.from_numpy(zooms).to(self.device)
        first = pages.triplet(0)
        self.pages = torch.empty((len(pages), *first.mask.shape, 4), dtype=torch.uint8, device=self.device)
        """(N, H, W, 4): HR image and mask."""
        self.names: list[str] = []
        self.sums = np.zeros((len(pages), *(-(-side // _GRID) + 1 for side in first.mask.shape)), np.int32)
        """Of each page, how many pixels of text lie above and left of every point of a grid."""
        with ThreadPoolExecutor() as pool:
            for i, page in enumerate(pool.map(pages.triplet, range(len(pages)))):
                cropping.check(page)
                if page.mask.shape != first.mask.shape:
                    sizes = [f"{x.mask.shape[1]}x{x.mask.shape[0]}" for x in (page, first)]
                    raise ValueError(
                        f"device_pages needs pages of one size: {page.name} is {sizes[0]}, not {sizes[1]}."
                    )
                self.pages[i] = torch.from_numpy(np.dstack([page.hr, page.mask])).to(self.device)
                rows = np.add.reduceat((page.mask > 127).astype(np.int32), np.arange(0, page.mask.shape[0], _GRID), 0)
                cells = np.add.reduceat(rows, np.arange(0, page.mask.shape[1], _GRID), 1)
                self.sums[i, 1:, 1:] = cells.cumsum(0).cumsum(1)
                self.names.append(page.name)

    def batches(self, numbers: Iterator[int]) -> Iterator[dict]:
        """The batches of these numbers; the next one's draws are made while one is in use."""
        with ThreadPoolExecutor(1) as pool:
            waiting = None
            for number in numbers:
                following = pool.submit(self._draw, number)
                if waiting is not None:
                    yield self._make(*waiting.result())
                waiting = following
            if waiting is not None:
                yield self._make(*waiting.result())

    def __getitem__(self, number: int) -> dict:
        return self._make(*self._draw(number))

    def _draw(self, number: int) -> tuple[int, list["_Item"]]:
        return number, [self._draw_item(number * self.batch_size + i) for i in range(self.batch_size)]

    def _draw_item(self, index: int) -> "_Item":
        cropping, rng = self.cropping, np.random.default_rng([self.seed, 6, index])
        page = int(rng.integers(len(self.names)))
        sums = self.sums[page]

        def text_share(place: tuple[slice, slice]) -> float:
            (top, bottom), (left, right) = ((round(at.start / _GRID), round(at.stop / _GRID)) for at in place)
            count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
            return count / max(1, (bottom - top) * (right - left) * _GRID**2)

        place = cropping.draw_place(tuple(self.pages.shape[1:3]), text_share, rng)
        look = draw_look(rng) if cropping.augmentation else None
        assert cropping.degradation is not None
        plan = draw_plan(cropping.degradation, rng, cropping.size, cropping.size)
        is_prompted = cropping.prompt_share is not None and rng.random() < cropping.prompt_share
        drawing = plan_drawing((cropping.size, cropping.size), rng) if is_prompted else None
        return _Item(index, page, place, look, plan, drawing)

    @torch.no_grad()
    def _make(self, number: int, items: list["_Item"]) -> dict:
        x = self._cut(items)
        if self.cropping.augmentation:
            x = looking(x, [item.look for item in items if item.look is not None])
        hr, mask = x[:, :3], x[:, 3:]
        seed = int(np.random.SeedSequence([self.seed, 7, number]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator(self.device).manual_seed(seed)
        lr = degrade_batch(hr, [item.plan for item in items], generator)
        batch = {
            "hr": hr / 255, "lr": lr / 255, "mask": mask / 255, "has_mask": torch.ones(len(items), device=self.device),
            "index": torch.tensor([item.index for item in items]), "name": [self.names[item.page] for item in items],
        }  # fmt: skip
        if self.cropping.prompt_share is not None:
            mask, prompts = batch["mask"], mask.new_zeros(len(items), 2, *mask.shape[2:])
            for i, item in enumerate(items):
                if item.drawing is not None:
                    prompts[i], mask[i] = draw_prompt(mask[i], item.drawing)
            batch["mask_prompt"] = prompts
        return batch

    def _cut(self, items: list["_Item"]) -> torch.Tensor:
        """The crops (B, 4, S, S), enlarged to one size, whole numbers in float32."""
        size, device = self.cropping.size, self.device
        page = torch.tensor([item.page for item in items], device=device)
        corner = torch.tensor([item.place[:2] for item in items], device=device)
        rows, columns = (
            (corner[:, i, None] + torch.arange(size, device=device)).clamp(max=self.pages.shape[1 + i] - 1)
            for i in (0, 1)
        )
        x = self.pages[page[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).float()
        if self.zooms is None:
            return x
        weight = self.zooms[torch.tensor([size - item.place[2] for item in items], device=device)][:, None]
        return (weight @ x @ weight.transpose(-1, -2)).round().clamp_(0, 255)


class _Item(NamedTuple):
    """What is drawn of one crop."""

    index: int
    page: int
    place: tuple[int, int, int]
    look: Look | None
    plan: list[Step]
    drawing: Drawing | None


def looking(x: torch.Tensor, looks: list[Look]) -> torch.Tensor:
    """Crops and their masks (B, 4, S, S), 0 to 255, changed as `page_crops` does it."""
    order = torch.from_numpy(np.stack([look.channels for look in looks])).to(x.device)
    hr = toned(x[:, :3].gather(1, order[:, :, None, None].expand_as(x[:, :3])), [look.tones for look in looks])
    inverted = torch.tensor([look.inverted for look in looks], device=x.device).view(-1, 1, 1, 1)
    x = torch.cat([torch.where(inverted, 255 - hr, hr), x[:, 3:]], 1)
    for turns in (1, 2, 3):
        if rows := [i for i, look in enumerate(looks) if look.turns == turns]:
            index = torch.tensor(rows, device=x.device)
            x[index] = torch.rot90(x[index], turns, (2, 3))
    return x


def toned(hr: torch.Tensor, tones: list[Tones]) -> torch.Tensor:
    """`photographic_tones` of images (B, 3, S, S), 0 to 255."""
    gray = torch.einsum("bchw,c->bhw", hr, hr.new_tensor(LUMA)).round()[:, None]
    keep = hr.new_tensor([tone.saturation for tone in tones]).view(-1, 1, 1, 1)
    hr = (hr * keep + gray * (1 - keep)).round()
    shares = histogram(gray).cumsum(1) / gray[0].numel()
    low, high = ((shares < percent / 100).sum(1) for percent in PERCENTILES)
    dark, light = hr.new_tensor([tone.contrast or (0.0, 0.0) for tone in tones]).unbind(1)
    gain = ((light - dark) / (high - low).clamp(min=1)).clamp(max=MOST_GAIN)
    stretched = hr * gain.view(-1, 1, 1, 1) + (dark - gain * low).view(-1, 1, 1, 1)
    chosen = torch.tensor([tone.contrast is not None for tone in tones], device=hr.device).view(-1, 1, 1, 1)
    return torch.where(chosen, stretched.round().clamp_(0, 255), hr)
