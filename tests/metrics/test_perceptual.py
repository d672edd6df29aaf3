"""LPIPS and FID against their packages and formulas; where their weights come from."""

import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from tadisr.metrics import perceptual
from tadisr.metrics.st_lpips import load_st_lpips


def test_frechet_distance_against_its_formula():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)), rng.normal(1, 2, size=(40, 6)) @ rng.normal(size=(6, 6))
    covariances = [np.cov(z, rowvar=False) for z in (x, y)]
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(
        sum(covariances) - 2 * sqrtm(np.matmul(*covariances)).real
    )
    assert perceptual.frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert perceptual.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    # fewer images than features: covariances are singular, the distance of equal sets still 0
    assert perceptual.frechet_distance(x[:4], x[:4]) == pytest.approx(0, abs=1e-9)
    assert perceptual.frechet_distance(x[:4], x[:4] + 3) == pytest.approx(6 * 9)
    with pytest.raises(ValueError, match="at least 2 images, got 1 and 50"):
        perceptual.frechet_distance(x[:1], x)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Both files, with random weights in the released layouts."""
    from torch import nn
    from torch_fidelity import feature_extractor_inceptionv3 as inception
    from torchvision.models import AlexNet_Weights, alexnet

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    features = {name: value for name, value in alexnet().state_dict().items() if name.startswith("features")}
    assert (
        AlexNet_Weights.IMAGENET1K_V1.url == perceptual.ALEXNET and perceptual.INCEPTION == inception.URL_INCEPTION_V3
    )
    torch.save(features, folder / perceptual.ALEXNET.rsplit("/", 1)[1])
    with pytest.MonkeyPatch.context() as patch:  # it can only be built with its weights at hand
        patch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *args, **kwargs: None)
        network = inception.FeatureExtractorInceptionV3("random", ["2048"])
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):  # else a random image leaves no trace in the last layer
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    torch.save(network.state_dict(), folder / perceptual.INCEPTION.rsplit("/", 1)[1])
    return folder


def test_lpips_against_the_package(backbones, images):
    import lpips

    ours = perceptual.LPIPS(backbones)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    saved = torch.load(next(backbones.glob("alexnet*")), weights_only=True)
    for part in (theirs.net.slice1, theirs.net.slice2, theirs.net.slice3, theirs.net.slice4, theirs.net.slice5):
        for number, layer in part.named_children():
            if hasattr(layer, "weight"):
                layer.weight.data, layer.bias.data = (
                    saved[f"features.{number}.weight"],
                    saved[f"features.{number}.bias"],
                )
    tensors = [torch.from_numpy(x).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in images]
    with torch.no_grad():
        expected = theirs(*tensors).item()
    assert expected > 1e-4 and ours(*images) == pytest.approx(expected, rel=1e-5)
    assert ours(images[0], images[0]) == 0
    small = [cv2.copyMakeBorder(x[:9, :35], 0, 23, 0, 0, cv2.BORDER_REPLICATE) for x in images]
    assert ours(images[0][:9, :35], images[1][:9, :35]) == pytest.approx(ours(*small))
    assert ours.description["weights"].startswith("alexnet") and len(ours.description["sha256"]) == 64


def test_inception_features(backbones, images):
    extract = perceptual.InceptionFeatures(backbones)
    features = extract(images[0])
    assert features.shape == (2048,) and features.dtype == np.float64
    np.testing.assert_array_equal(features, extract(images[0]))
    assert np.abs(features - extract(images[1])).max() > 0.01 * np.abs(features).max()


def test_missing_backbones_are_one_plain_line(tmp_path, monkeypatch):
    for metric, name in ((perceptual.LPIPS, "alexnet"), (perceptual.InceptionFeatures, "weights-inception")):
        with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no {name}"):
            metric(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"none-01234567.pth cannot be downloaded \(.*No such file.*\): name"):
        perceptual.find_weights((tmp_path / "none-01234567.pth").as_uri())


def test_a_download_is_checked_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "w-315f5bdb.pth").write_bytes(b"hello")  # not what its name says
    with pytest.raises(FileNotFoundError, match="invalid hash value"):
        perceptual.find_weights((tmp_path / "w-315f5bdb.pth").as_uri())
    (tmp_path / "w-2cf24dba.pth").write_bytes(b"hello")
    found = perceptual.find_weights((tmp_path / "w-2cf24dba.pth").as_uri())
    assert found == tmp_path / "hub" / "checkpoints" / "w-2cf24dba.pth" and found.read_bytes() == b"hello"
    (tmp_path / "w-2cf24dba.pth").unlink()
    assert perceptual.find_weights((tmp_path / "w-2cf24dba.pth").as_uri()) == found  # not fetched again


def test_foreign_weights_are_refused(tmp_path, backbones):
    for file in backbones.iterdir():
        torch.save({"other": torch.zeros(1)}, tmp_path / file.name)
    for metric in (perceptual.LPIPS, perceptual.InceptionFeatures):
        with pytest.raises(ValueError, match="does not hold the expected weights"):
            metric(tmp_path)


class _Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"import pathlib; pathlib.Path({str(self.path)!r}).touch()",))


@pytest.mark.parametrize("metric", [perceptual.LPIPS, perceptual.InceptionFeatures])
def test_weights_that_would_run_something(tmp_path, backbones, metric):
    """torch-fidelity runs whatever its file holds."""
    for file in backbones.iterdir():
        torch.save(torch.load(file, weights_only=True) | {"x": _Runs(tmp_path / "was_run")}, tmp_path / file.name)
    with pytest.raises(ValueError, match="would call [a-z.]*exec|is no PyTorch checkpoint"):
        metric(tmp_path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("metric", [perceptual.LPIPS, perceptual.InceptionFeatures])
@pytest.mark.parametrize("value", [float("nan"), None])
def test_backbones_of_which_a_tensor_is_spoilt(tmp_path, backbones, metric, value):
    for file in backbones.iterdir():
        state = torch.load(file, weights_only=True)
        name = next(name for name in state if name.endswith("bias"))
        state[name] = state[name] * value if value else state[name].int()
        torch.save(state, tmp_path / file.name)
    with pytest.raises(ValueError, match="bias is not finite" if value else "bias holds integers, expected floats"):
        metric(tmp_path)


@pytest.mark.parametrize(("metric", "package"), [("LPIPS", "lpips"), ("InceptionFeatures", "torch_fidelity")])
def test_missing_packages_are_named(monkeypatch, backbones, metric, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'tadisr\[metrics\]'"):
        getattr(perceptual, metric)(backbones)


def test_st_lpips_of_pictures():
    distance = perceptual.ShiftTolerantLPIPS()
    image = np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8)
    assert distance(image, image) == 0 and distance.description["weights"] == "stlpips-pytorch"
    padded = [cv2.copyMakeBorder(one, 0, 0, 0, 12, cv2.BORDER_REPLICATE) for one in (image, 255 - image)]
    tensors = [torch.from_numpy(one).permute(2, 0, 1)[None] / 127.5 - 1 for one in padded]
    assert distance(image, 255 - image) == pytest.approx(load_st_lpips()(*tensors).item(), rel=1e-5)
    assert distance(image, 255 - image) > 0
