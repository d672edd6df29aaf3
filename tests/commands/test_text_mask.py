"""`tadisr upscale --text-mask`: a mask that somebody corrected."""

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.command_line import noise, opened, three

DONE = (0, ["tadisr: 1 of 1 restored: out/a.png"])


def draw(name="drawn.png", size=(52, 36)):
    mask = Image.new("LA", size, (0, 0))
    mask.paste((255, 255), (4, 4, 20, 30))
    mask.save(name)


def test_the_image_follows_a_mask(run):
    tiny.lean(mask_prompt=True).save_pretrained("follows")
    Image.fromarray(noise()).save("a.png")
    draw()
    options = ("a.png", "-o", "out", "--model", "follows", "--skip-existing")
    assert run(*options) == DONE
    without = opened("out/a.png"), opened("out/a_mask.png", "L")
    with_mask = (*options, "--text-mask", "drawn.png")
    code, lines = run(*with_mask)
    assert code == 0 and lines[0] == "tadisr: 1 restored anew: their outputs were made with another --text-mask"
    changed = opened("out/a.png"), opened("out/a_mask.png", "L")
    assert all((one != other).any() for one, other in zip(without, changed, strict=True))
    assert "nothing to do" in run(*with_mask)[1][0]
    assert np.array_equal(opened("out/a.png"), changed[0])
    assert run(*options, "--text-mask", "out/a_mask.png") == (
        2,
        ["tadisr: out/a_mask.png would be replaced by an output: name another folder with -o, or add --no-mask"],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["in"], "--text-mask is for one image, not for 3"),
        (["in/a.png", "--text-mask", "none.png"], "none.png"),
        (["in/a.png"], "--text-mask drawn.png: The model takes no mask prompt: train one with mask_prompt: true."),
    ],
)
def test_masks_that_cannot_be_followed(run, options, message):
    three()
    draw()
    code, lines = run("-o", "out", "--text-mask", "drawn.png", *options)
    assert code == 2 and message in lines[-1]
