"""Metrics against known answers and independent implementations."""

import math
import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.ndimage import distance_transform_edt
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tadisr.metrics import perceptual
from tadisr.metrics.image import psnr, ssim
from tadisr.metrics.segmentation import boundary_f
from tadisr.metrics.text import (
    NORMALIZATIONS,
    agreement,
    edit_similarity,
    fold_text,
    normalize_text,
    ocr_accuracy,
    ocr_accuracy_levenshtein,
    script_of,
)

# By hand: (read, truth, OCR-A with indel distance, with unit substitutions, edit similarity).
TABLE = [
    ("", "", 1, 1, 1),
    ("a", "", 0, 0, 0),
    ("abc", "abc", 1, 1, 1),
    ("abc", "xyz", 0, 1 / 2, 0),
    ("abcd", "abxd", 6 / 8, 7 / 8, 3 / 4),
    ("ab", "ba", 2 / 4, 2 / 4, 0),
    ("kitten", "sitting", 8 / 13, 10 / 13, 4 / 7),
    ("二等庄", "二等座", 4 / 6, 5 / 6, 2 / 3),
    ("Exit", "exit", 6 / 8, 7 / 8, 3 / 4),
]


def distance(one, other, substitution):
    """Edit distance as textbooks write it."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b) * substitution)
    return row[-1]


@pytest.mark.parametrize(("read", "truth", "indel", "unit", "similarity"), TABLE)
def test_text_metrics_by_hand(read, truth, indel, unit, similarity):
    for one, other in ((read, truth), (truth, read)):
        assert ocr_accuracy(one, other) == pytest.approx(indel)
        assert ocr_accuracy_levenshtein(one, other) == pytest.approx(unit)
        assert edit_similarity(one, other) == pytest.approx(similarity)


@given(st.text("ab二 ", max_size=9), st.text("ab二 ", max_size=9))
@settings(deadline=None, max_examples=60)
def test_text_metrics_against_the_textbook(one, other):
    total, longer = len(one) + len(other), max(len(one), len(other))
    assert ocr_accuracy(one, other) == pytest.approx(1 - distance(one, other, 2) / total if total else 1)
    assert ocr_accuracy_levenshtein(one, other) == pytest.approx(1 - distance(one, other, 1) / total if total else 1)
    assert edit_similarity(one, other) == pytest.approx(1 - distance(one, other, 1) / longer if longer else 1)
    assert ocr_accuracy_levenshtein(one, other) >= ocr_accuracy(one, other) - 1e-12


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Exit-１２ B", "exit12b"), ("STRASSE", "strasse"), ("Straße", "strasse"), ("二等 座。", "二等座"), ("—!", ""),
     ("हिन्दी", "हिन्दी"), ("ﬁn", "fin")],
)  # fmt: skip
def test_normalization(text, expected):
    assert normalize_text(text, "alnum") == expected
    assert normalize_text(text) == normalize_text(text, "none") == text
    assert set(NORMALIZATIONS) == {"none", "alnum"}


def test_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="No text normalisation 'lower': choose one of none, alnum"):
        normalize_text("a", "lower")


@given(st.text(), st.text())
@settings(deadline=None, max_examples=60)
def test_agreement_ignores_case_width_and_spaces(one, other):
    assert agreement(one, other) == agreement(other, one)
    assert 0 <= agreement(one, other) <= 1
    assert agreement(one, f" {one}　") == 1
    assert not any(c.isspace() for c in fold_text(one))


def test_folded_text():
    assert fold_text("Ｅxit　１2 ：") == "exit12:"
    assert agreement("ＥＸＩＴ １２", "exit12") == 1
    assert agreement("二等座", "二等庄") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "script"),
    [("Exit 12", "latin"), ("Übergröße", "latin"), ("二等座", "chinese"), ("07车", "chinese"), ("¥53.0", "digits"),
     ("07车12B号", "mixed"), ("清潔できれいな", "other"), ("выход", "other"), ("", "other"), ("→", "other")],
)  # fmt: skip
def test_scripts(text, script):
    assert script_of(text) == script


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (48, 40, 3), dtype=np.uint8), (0, 0), 1.5)
    return image, np.clip(image + rng.normal(0, 8, image.shape), 0, 255).round().astype(np.uint8)


def test_psnr_and_ssim_against_scikit_image(images):
    image, noisy = images
    assert psnr(noisy, image) == pytest.approx(peak_signal_noise_ratio(image, noisy, data_range=255), abs=1e-4)
    gray = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in images]
    assert ssim(noisy, image) == pytest.approx(structural_similarity(*gray, data_range=255, win_size=7))
    assert psnr(image, image) == math.inf and ssim(image, image) == pytest.approx(1)


def test_psnr_of_a_constant_error():
    black = np.zeros((8, 9, 3), np.uint8)
    assert psnr(black + 16, black) == pytest.approx(20 * math.log10(255 / 16))


def test_ssim_by_its_formula():
    """One 7x7 window: the mean over all positions is the formula itself."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (2, 7, 7), dtype=np.uint8)
    colour = [np.repeat(z[..., None], 3, axis=2) for z in (x, y)]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = np.cov(x.ravel(), y.ravel(), ddof=1)
    mx, my = x.mean(), y.mean()
    expected = (2 * mx * my + c1) * (2 * covariance[0, 1] + c2)
    expected /= (mx**2 + my**2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    assert ssim(*colour) == pytest.approx(expected, abs=1e-6)


def test_image_metrics_refuse_what_does_not_fit(images):
    image = images[0]
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match="uint8 images of one size"):
            metric(image, image[:-1])
        with pytest.raises(ValueError, match="uint8 images of one size"):
            metric(image / 255, image)
    with pytest.raises(ValueError, match="at least 7 x 7 pixels"):
        ssim(image[:6], image[:6])


def test_boundary_f_by_hand():
    truth = np.zeros((40, 60), bool)
    truth[10:30, 20:40] = True
    assert boundary_f(truth, truth) == 1 and boundary_f(truth & False, truth & False) == 1
    assert boundary_f(truth & False, truth) == boundary_f(truth, truth & False) == 0
    assert boundary_f(np.roll(truth, 2, 1), truth) == 1  # within the tolerance
    # moved by 4: the upright edges are lost, and of the others what is over 2 pixels beyond the other's corner
    moved = np.roll(truth, 4, 1)
    matched = sum(distance_to(truth)[boundary_of(moved)] <= 2)
    assert boundary_f(moved, truth) == pytest.approx(matched / boundary_of(moved).sum())
    assert 0.3 < boundary_f(moved, truth) < 0.6
    assert boundary_f(np.ones((9, 9), bool), np.ones((9, 9), bool)) == 1  # no outline: the border is none


def boundary_of(mask):
    return mask & (distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1] == 1)


def distance_to(mask):
    return distance_transform_edt(~boundary_of(mask))


def test_boundary_f_refuses_what_does_not_fit():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(ValueError, match="boolean masks of one size"):
        boundary_f(mask, mask[:3])
    with pytest.raises(ValueError, match="boolean masks of one size"):
        boundary_f(mask.astype(np.uint8), mask)


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


@pytest.mark.parametrize(("metric", "package"), [("LPIPS", "lpips"), ("InceptionFeatures", "torch_fidelity")])
def test_missing_packages_are_named(monkeypatch, backbones, metric, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'tadisr\[metrics\]'"):
        getattr(perceptual, metric)(backbones)
