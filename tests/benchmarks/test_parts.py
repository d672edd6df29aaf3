"""benchmarks/parts.py: each part is off in its row, and only there."""

import runpy
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from helpers import tiny
from helpers.training_runs import ROOT
from tadisr import TADiSRPipeline

SCRIPT = str(ROOT / "benchmarks" / "parts.py")


@pytest.fixture(scope="module")
def parts():
    return SimpleNamespace(**runpy.run_path(SCRIPT))


@pytest.fixture
def pipe() -> TADiSRPipeline:
    """As if trained: every part has an effect."""
    pipe = tiny.lean()
    torch.manual_seed(0)
    for part in (pipe.vae.decoder, pipe.unet, pipe.joint_decoder):
        for parameter in part.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return pipe


def picture(*how) -> np.ndarray:
    """`tiny.photo` as an array (height, width, 3), uint8."""
    return (tiny.photo(*how)[0].permute(1, 2, 0) * 255).round().byte().numpy()


@pytest.fixture
def lr() -> np.ndarray:
    return picture(24, 16)


def decoded(parts, pipe, lr, row, maps_times=1.0):
    """The row's image and mask logits; the attention maps may be other ones."""
    x = pipe.prepare_image(parts.to_tensor(lr)[None], 4)
    latents, features = pipe.encode(x)
    latents, maps = pipe.denoise(latents)
    with torch.no_grad(), parts.hooked(parts.ROWS[row](pipe.joint_decoder)):
        return pipe.decode(latents, {name: maps_times * logits for name, logits in maps.items()}, features, x)


def test_every_row_differs_and_nothing_stays_behind(parts, pipe, lr):
    rows = parts.restore(pipe, lr)
    image, _ = rows["as it is"]
    whole, logits = pipe.restore_tile(parts.to_tensor(lr)[None])
    assert np.array_equal(image, (whole[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    assert image.shape == (64, 96, 3) and np.array_equal(rows["as it is"][1], (logits[0, 0] > 0).numpy())
    for name in set(rows) - {"as it is", "no gates from the image"}:
        assert not np.array_equal(rows[name][0], image), name
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipe.joint_decoder.modules())


def test_gates_carry_what_the_mask_knows(parts, pipe, lr):
    """The image follows the attention by the mask's gates alone, and the mask follows the image by the image's."""
    for row, follows in (("as it is", True), ("mask's gates at 0.5", False), ("no update of the image", False)):
        images, masks = zip(*(decoded(parts, pipe, lr, row, times) for times in (1.0, -1.0)), strict=True)
        assert torch.equal(*images) != follows and not torch.equal(*masks), row
    assert torch.equal(decoded(parts, pipe, lr, parts.MAPS)[1], decoded(parts, pipe, lr, parts.MAPS, 3.0)[1])
    assert not torch.equal(
        decoded(parts, pipe, lr, "no gates from the image")[1], decoded(parts, pipe, lr, "as it is")[1]
    )


def test_the_mean_of_a_gate(parts):
    logits = torch.tensor([[-2.0, 4.0], [1.0, 1.0]]).reshape(1, 2, 1, 2)
    mean = parts.mean_gate(logits).sigmoid()
    torch.testing.assert_close(mean, logits.sigmoid().mean((2, 3), keepdim=True).expand(1, 2, 1, 2))


def test_what_holds(parts):
    """Thresholds, on pages whose errors are known."""
    hr, truth = np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32), bool)
    truth[8:16, 8:16] = True

    def scores(error, on_text, found):
        row = parts.Scores()
        for more in (0, 1):
            image = hr + np.uint8(error)
            image[4:20, 4:20] = 100 + on_text + more
            row.add(image, truth if found else ~truth, hr, truth)
        return row

    rows = {name: scores(8, 8, True) for name in parts.ROWS}
    assert sum(parts.verdicts(rows).values()) == 0
    assert rows["as it is"].iou == 1 and rows["as it is"].text[0] == pytest.approx(20 * np.log10(255 / 8))
    rows[parts.STEP], rows[parts.MAPS], rows[parts.GATES] = scores(9, 9, True), scores(9, 9, False), scores(8, 9, True)
    assert list(parts.verdicts(rows).values()) == [True] * 4
    row = next(line for line in parts.table(rows) if line.startswith(f"| {parts.MAPS} |"))
    assert row.endswith("| 0.000 |") and "+1.0" in row


def test_the_command(tmp_path, pipe, monkeypatch, capsys):
    pipe.joint_decoder.register_to_config(text_strength=0.0)  # the softening is off in every row
    pipe.save_pretrained(tmp_path / "model")
    for seed in range(3):
        for kind, image in (
            ("hr", picture(96, 64, seed)),
            ("mask", picture(96, 64)[..., 0]),
            ("lr", picture(24, 16, seed)),
        ):
            (tmp_path / "ftsr" / "test" / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "ftsr" / "test" / kind / f"{seed}.png"), image)
    arguments = ["parts.py", str(tmp_path / "model"), "--data", str(tmp_path / "ftsr"), "--num", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(SCRIPT, run_name="__main__")
    printed = capsys.readouterr().out
    assert ", 2 test pages of" in printed and printed.count("\n| ") == 1 + 7
    assert printed.count("holds: ") + printed.count("FAILS: ") == 4

    pipe.joint_decoder.register_to_config(interaction="mugi_shared")
    with pytest.raises(SystemExit, match="interaction cdib"):
        runpy.run_path(SCRIPT)["blocks_of"](pipe.joint_decoder)
