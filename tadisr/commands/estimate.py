"""How long a run takes: said once, in a line, as soon as some of the work was timed."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

_WORTH_SAYING = 20  # seconds: who waits for less needs no line
_ENOUGH = 1.0  # seconds of work that an estimate follows from
_AT_ONCE = 0.01  # seconds: tiles that follow faster belong to one batch, whose work comes after its last


def megapixels(pixels: float) -> str:
    """So many pixels, in words.

    >>> megapixels(24_100_000), megapixels(450_000)
    ('24 megapixels', '0.5 megapixels')
    """
    return f"{pixels / 1e6:.{0 if pixels >= 1e7 else 1}f} megapixels"


class Estimate:
    """The time of a run, in proportion to the pixels of its inputs: a model restores all of them at its own factor.

    The first batch of tiles, or the first image of one tile, is not timed: it warms the model up.

    Args:
        noun: what is restored, such as "image".
        images: pixels of the input and of the output of each.
        say: gets the line; None for none.
    """

    def __init__(self, noun: str, images: Sequence[tuple[int, int]], say: Callable[[str], None] | None):
        self._noun, self._say, self._count = noun, say, len(images)
        self._inputs, self._outputs = (float(sum(sides)) for sides in zip(*images, strict=True))
        self._before, self._pixels = 0.0, 0.0  # of the images before, of the one that is being restored
        self._share, self._when = 0.0, 0.0  # how much of it is done, and since when
        self._timed, self._seconds = 0.0, 0.0  # pixels, and how long they took
        self._warm = False

    def leave_out(self, image: tuple[int, int]) -> None:
        """An image needs no work."""
        self._count -= 1
        self._inputs -= image[0]
        self._outputs -= image[1]

    def begin(self, pixels: int) -> None:
        """An input of so many pixels is going to be restored."""
        self._before += self._pixels
        self._pixels, self._share, self._when = pixels, 0.0, time.perf_counter()

    def reach(self, share: float) -> None:
        """So much of it is done, from 0 to 1."""
        now = time.perf_counter()
        if share <= self._share:  # the first tile; or smaller tiles, after those for which memory was short
            self._share, self._when = share, now
        elif now - self._when >= _AT_ONCE:
            if self._warm:
                self._timed += self._pixels * (share - self._share)
                self._seconds += now - self._when
            self._share, self._when, self._warm = share, now, True
            if self._say and self._seconds >= _ENOUGH:
                self._tell(self._say)
                self._say = None

    def of_tiles(self, grid: Iterable) -> Iterator:
        """The tiles of the image that was begun; each that is asked for says that those before it are done."""
        tiles = list(grid)
        for done, tile in enumerate(tiles):
            self.reach(done / len(tiles))
            yield tile
        self.reach(1)

    def _tell(self, say: Callable[[str], None]) -> None:
        rate = self._seconds / self._timed
        left = self._inputs - self._before - self._pixels * self._share
        if rate * left > _WORTH_SAYING:
            images = f"{self._count} {self._noun}{'' if self._count == 1 else 's'}"
            say(f"{images}, {megapixels(self._outputs)}: about {_duration(rate * self._inputs)}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{round(seconds, -1):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"
