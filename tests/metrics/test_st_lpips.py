"""ST-LPIPS with its published weights."""

from importlib.metadata import PackageNotFoundError

import pytest
import torch
import torch.nn.functional as F

from tadisr.metrics import st_lpips


@pytest.fixture(scope="module", params=["alex", "vgg"])
def network(request):
    return st_lpips.load_st_lpips(request.param), request.param


@pytest.fixture(scope="module")
def image():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    return torch.stack([torch.sin(x / 3 + y / 7), torch.cos(x * y / 50), (x - y).sign()])[None]


@pytest.fixture(scope="module")
def blurred(image):
    return F.avg_pool2d(image, 5, 1, padding=2, count_include_pad=False)


def test_distances_are_those_of_the_authors_code(network, image, blurred):
    """As stlpips-pytorch 0.0.2 computes them, with the packages that it needs and does not name."""
    distance, name = network
    assert distance(image, blurred).item() == pytest.approx({"alex": 0.482673, "vgg": 0.388939}[name], rel=1e-4)
    shifted = distance(image[..., 1:], image[..., :-1]).item()
    assert shifted == pytest.approx({"alex": 0.00538607, "vgg": 0.0263349}[name], rel=1e-3)
    assert distance(image, image) == 0
    both = distance(torch.cat([image, image]), torch.cat([blurred, image]))
    assert both.tolist() == pytest.approx([distance(image, blurred).item(), 0])


def test_its_gradient_leads_to_the_reference(network, image, blurred):
    distance, _ = network
    start = blurred.clone().requires_grad_()
    loss = distance(start, image).sum()
    [gradient] = torch.autograd.grad(loss, start)
    assert distance(blurred - 0.5 * gradient / gradient.abs().max(), image) < loss
    black = torch.full((1, 3, 32, 32), -1.0, requires_grad=True)  # hardly a feature responds
    distance(black, image[..., :32, :32]).sum().backward()
    assert torch.isfinite(black.grad).all()


def test_what_cannot_be_compared(monkeypatch, image):
    with pytest.raises(ValueError, match="at least 32 x 32 pixels"):
        st_lpips.STLPIPS()(image[..., :31], image[..., :31])

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(st_lpips, "distribution", missing)
    with pytest.raises(ImportError, match=r"ST-LPIPS needs stlpips-pytorch: pip install 'tadisr\[stlpips\]'\.$"):
        st_lpips.load_st_lpips()


def test_a_package_that_is_incomplete(monkeypatch, tmp_path):
    class Damaged:
        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(st_lpips, "distribution", lambda name: Damaged())
    with pytest.raises(ValueError, match=r"stlpips-pytorch is damaged, install it anew: [^\n]*$"):
        st_lpips.load_st_lpips("vgg")
