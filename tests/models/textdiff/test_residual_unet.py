"""TextDiff's U-Net: known answers, every option, every error."""

import pytest
import torch
import torch.nn.functional as F

from helpers.textdiff_parts import noise, tiny_unet, wake
from tadisr.models.textdiff.residual_unet import GatedConv, ResidualUNet


def test_gated_convolution_is_leaky_value_times_gate():
    torch.manual_seed(0)
    layer, x = GatedConv(3, 4, dilation=2), noise(2, 3, 9, 9)
    value = F.conv2d(x, layer.conv.weight[:4], layer.conv.bias[:4], padding=2, dilation=2)
    gate = F.conv2d(x, layer.conv.weight[4:], layer.conv.bias[4:], padding=2, dilation=2)
    expected = torch.where(value > 0, value, 0.2 * value) / (1 + (-gate).exp())
    assert torch.allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 128), (1, 1), (1, 9), (18, 1), (13, 30)])
def test_unet_keeps_any_size_and_starts_at_zero(size):
    image = noise(2, 3, *size)
    assert torch.equal(tiny_unet().eval()(image, 5, image, image[:, :1]), torch.zeros(2, 3, *size))
    out = wake(tiny_unet()).eval()(image, 5, image, image[:, :1])
    assert out.shape == image.shape and out.abs().max() > 0


def test_unet_depends_on_time_image_by_image():
    unet, image = wake(tiny_unet()).eval(), noise(2, 3, 8, 16)
    early, late = unet(image, 3, image, image[:, :1]), unet(image, 190, image, image[:, :1])
    mixed = unet(image, torch.tensor([3, 190]), image, image[:, :1])
    assert torch.allclose(mixed, torch.stack([early[0], late[1]]), atol=1e-5)
    assert not torch.allclose(early, late, atol=1e-4)
    with torch.no_grad():  # where it works in place
        assert torch.equal(unet(image, 3, image, image[:, :1]), early)


def test_unet_reads_the_mask_at_its_bottom_too():
    unet, image = wake(tiny_unet()).eval(), noise(1, 3, 8, 16)
    with torch.no_grad():
        unet.conv_in.weight[:, 6] = 0  # blind to the mask at the top
        text, none = (unet(image, 3, image, torch.full((1, 1, 8, 16), value)) for value in (1.0, 0.0))
        assert not torch.allclose(text, none, atol=1e-5)
        unet.gated_convs[0].conv.weight[:, -1] = 0
        text, none = (unet(image, 3, image, torch.full((1, 1, 8, 16), value)) for value in (1.0, 0.0))
        assert torch.equal(text, none)


def test_unet_options():
    def attends(unet):
        return [block.attention is not None for block in unet.down_blocks]

    assert attends(tiny_unet()) == [False, False, True]
    assert attends(tiny_unet(attention=False)) == [False, False, False]
    assert attends(tiny_unet(attention_from=0)) == [True, True, True]
    image = noise(1, 3, 8, 16)
    assert wake(tiny_unet(mask=False)).eval()(image, 0, image, None).abs().max() > 0
    assert [layer.conv.dilation[0] for layer in ResidualUNet(block_out_channels=(8,)).gated_convs] == [2, 4, 8, 16]


def test_dropout_is_in_training_only():
    unet, image = wake(tiny_unet(dropout=0.5)), noise(1, 3, 8, 16)
    call = (image, 3, image, image[:, :1])
    torch.manual_seed(0)
    assert not torch.equal(unet.train()(*call), unet(*call))
    assert torch.equal(unet.eval()(*call), unet(*call))


def test_unet_refuses_what_does_not_fit():
    unet, image = tiny_unet(), torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="Expected a residual and an image"):
        unet(image[..., :4], 0, image, image[:, :1])
    with pytest.raises(ValueError, match="Expected a residual and an image"):
        unet(image[:0], 0, image[:0], image[:0, :1])
    with pytest.raises(ValueError, match="reads a mask"):
        unet(image, 0, image, None)
    with pytest.raises(ValueError, match="Expected a mask"):
        unet(image, 0, image, image)
    with pytest.raises(ValueError, match="without a mask"):
        tiny_unet(mask=False)(image, 0, image, image[:, :1])
    with pytest.raises(ValueError, match="multiple of norm_groups=4"):
        tiny_unet(block_out_channels=(8, 10))
