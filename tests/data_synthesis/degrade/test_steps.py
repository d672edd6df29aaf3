"""Blur, resize, noise and JPEG against explicit sums, other libraries, and the moments of distributions."""

import io
import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from helpers.degradations import centre, full, photo, rng
from tadisr.data_synthesis.degrade import Degradation, draw_plan, steps
from tadisr.data_synthesis.degrade.kernels import gaussian_kernel, gaussian_vector, sinc_kernel
from tadisr.data_synthesis.degrade.steps import Blur, Chroma, Jpeg, Noise, Resize, Scratch, Sharpen, WebP


def run(image, step):
    """One step on a float image, RGB in and out."""
    bgr = np.ascontiguousarray(image[..., ::-1], dtype=np.float32)
    return steps.FUNCTIONS[type(step)](bgr, step, Scratch())[..., ::-1].astype(np.float64)


KERNELS = {
    "separable": gaussian_vector(1.7, 15),
    "direct": gaussian_kernel(1.3, 0.6, 0.7, size=9),
    "fourier": sinc_kernel(1.2, 21),
    "fourier, oblong": gaussian_kernel(3, 1.5, 0.2, 0.7, size=21)[3:-3],
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("shape", [(70, 93), (8, 75)])
def test_blur_is_the_sum_over_the_kernel(name, shape):
    image, kernel = photo(*shape).astype(np.float64), KERNELS[name]
    weights = full(kernel).astype(np.float64)
    top, left = (side // 2 for side in weights.shape)
    extended = np.pad(image, ((top, top), (left, left), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(extended, weights.shape, (0, 1))
    np.testing.assert_allclose(run(image, Blur(kernel)), np.einsum("hwcij,ij->hwc", windows, weights), atol=5e-3)


def test_the_ways_to_blur_are_all_taken():
    large = np.zeros((70, 93, 3), np.uint8)
    scratch = Scratch()
    for kernel in KERNELS.values():
        steps.blur(large, Blur(kernel), scratch)
    assert "channel0" in scratch._buffers  # by Fourier transform
    assert KERNELS["direct"].size < 130 < KERNELS["fourier, oblong"].size


@pytest.mark.parametrize("size", [(20, 11), (61, 77), (40, 53), (60, 106)])
def test_resizing_is_interpolation_or_a_mean_over_areas(size):
    image = photo(40, 53).astype(np.float64)
    for mode in ("bilinear", "bicubic"):
        expected = F.interpolate(torch.from_numpy(image).permute(2, 0, 1)[None], size, mode=mode, align_corners=False)
        np.testing.assert_allclose(run(image, Resize(*size, mode)), expected[0].permute(1, 2, 0).numpy(), atol=0.02)

    def means(values, count):  # along the first axis, by differences of the integral
        total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0)])
        borders = np.linspace(0, len(values), count + 1)
        below = np.minimum(borders.astype(int), len(values) - 1)
        part = (borders - below).reshape(-1, *[1] * (values.ndim - 1))
        return np.diff(total[below] + part * values[below], axis=0) * (count / len(values))

    expected = means(means(image, size[0]).swapaxes(0, 1), size[1]).swapaxes(0, 1)
    np.testing.assert_allclose(run(image, Resize(*size, "area")), expected, atol=0.02)


@pytest.mark.parametrize("mode", steps.MODES)
@pytest.mark.parametrize("factor", [0.15, 0.43, 0.8, 1.37])
def test_resizing_moves_nothing(mode, factor):
    image = np.zeros((120, 160, 3), np.float32)
    image[40:70, 50:90] = 200  # centred on (55, 70)
    image = cv2.GaussianBlur(image, (0, 0), 6)  # nothing between the samples of a far reduction
    height, width = int(120 * factor), int(160 * factor)
    resized = run(image, Resize(height, width, mode))
    # From 7 pixels per sample on, the samples themselves are a few hundredths off.
    np.testing.assert_allclose(centre(resized) * (120 / height, 160 / width), (55, 70), atol=0.06)


def test_gaussian_noise_has_its_moments():
    flat = np.full((300, 400, 3), 127.0)
    for gray in (False, True):
        noise = run(flat, Noise("gaussian", 20.0, gray, 3)) - 127
        assert noise.mean() == pytest.approx(0, abs=0.2) and noise.std() == pytest.approx(20, rel=0.01)
        assert (noise[..., 0] ** 3).mean() / 20**3 == pytest.approx(0, abs=0.05)
        assert (noise[..., 0] ** 4).mean() / 20**4 == pytest.approx(3, abs=0.1)
        correlation = np.corrcoef(noise.reshape(-1, 3).T)[0, 1:]
        np.testing.assert_allclose(correlation, 1 if gray else 0, atol=0.02)
        for neighbour in (noise[1:, :, 0] * noise[:-1, :, 0], noise[:, 1:, 0] * noise[:, :-1, 0]):
            assert neighbour.mean() / 400 == pytest.approx(0, abs=0.02)


def test_the_normal_table_is_normal():
    values = steps.normal_table().astype(np.float64)
    assert len(values) == 2**16 and (np.diff(values) > 0).all() and 4.2 < values[-1] < 4.5
    for power, expected in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        assert (values**power).mean() == pytest.approx(expected, abs=1e-5 if power < 4 else 0.003 * expected)
    share_below = [(values < at).mean() for at in (-2, -0.5, 0, 1, 3)]
    np.testing.assert_allclose(
        share_below, [0.5 * math.erfc(-at / math.sqrt(2)) for at in (-2, -0.5, 0, 1, 3)], atol=2e-5
    )


@pytest.mark.parametrize("photons", [1, 4, 64, 256])
def test_the_poisson_table_holds_the_poisson_distribution(photons):
    """For each level: every count's probability, the mean and the variance, from the table's own entries."""
    share, deviation = steps.poisson_table(photons)
    share = share.reshape(256, 256) / 2**16
    for level in (0, 1, 2, 7, 40, 128, 255):
        rate = level * photons / 255
        values = deviation.reshape(2, 256, 256)[:, level]
        weights = np.stack([share[level], 1 - share[level]]) / 256
        counts = np.rint((values + level) * photons / 255).astype(int)
        np.testing.assert_allclose(counts * 255 / photons - level, values, atol=1e-4)
        found = np.bincount(counts.ravel(), weights.ravel(), minlength=600)
        probability, expected = math.exp(-rate), []
        for count in range(600):  # p(k + 1) = p(k) rate / (k + 1)
            expected.append(probability)
            probability *= rate / (count + 1)
        assert np.abs(found - expected).sum() < 2e-5
        assert (weights * values).sum() == pytest.approx(0, abs=1e-3 * 255 / photons)
        variance = rate * (255 / photons) ** 2
        assert (weights * values**2).sum() == pytest.approx(variance, rel=1e-4, abs=1e-6)


def test_poisson_noise_has_its_moments():
    ramp = np.tile(np.arange(256.0)[None, :, None], (3000, 1, 3))  # 256 levels: 256 photons
    for gray in (False, True):
        noise = run(ramp, Noise("poisson", 0.5, gray, 5)) - ramp
        for level in (3, 20, 100, 200):
            column = noise[:, level]
            variance = 0.25 * level * 255 / 256  # scale^2 (255 / 256)^2 (level 256 / 255)
            assert column.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / 3000))
            assert column.var() == pytest.approx(variance, rel=0.1)
            skewness = ((column[:, 0] - column[:, 0].mean()) ** 3).mean() / variance**1.5
            assert skewness == pytest.approx((level * 256 / 255) ** -0.5, abs=0.2)
            np.testing.assert_allclose(np.corrcoef(column.T)[0, 1:], 1 if gray else 0, atol=0.08)
        assert np.abs(noise[:, 0]).max() == 0


@pytest.mark.parametrize(("levels", "photons"), [(1, 1), (2, 2), (5, 8), (129, 256)])
def test_fewer_levels_mean_fewer_photons(levels, photons):
    """As published: the count of different levels, rounded up to a power of two."""
    values = np.linspace(100, 228, levels).round() if levels > 1 else np.array([128.0])
    image = np.tile(np.repeat(values, 3)[None, :, None], (400, 1, 3))
    noise = run(image, Noise("poisson", 0.2, False, 1)) - image
    rate = values[0] * photons / 255
    variance = 0.04 * rate * (255 / photons) ** 2
    assert noise[:, :3].var() == pytest.approx(variance, rel=0.12)


def test_levels_are_counted_in_all_rows():
    image = np.full((64, 50, 3), 90.0)
    image[20] = np.linspace(60, 160, 50).round()[:, None]  # between the rows that are looked at first
    noise = run(image, Noise("poisson", 0.3, False, 2))[32:] - 90
    assert noise.var() == pytest.approx(0.09 * 90 * 255 / 64, rel=0.1)  # 50 levels: 64 photons


@pytest.mark.parametrize(("colour", "luma"), [((230, 20, 20), 83), ((20, 20, 230), 44)])
def test_gray_poisson_noise_follows_the_luma(colour, luma):
    image = np.tile(np.array(colour, dtype=np.float64), (300, 300, 1))
    image[:, :, 1] += np.arange(300) % 2 * 2  # two levels: two photons
    noise = run(image, Noise("poisson", 0.05, True, 4)) - image
    assert noise[..., 0].var() == pytest.approx(0.0025 * luma * 255 / 2, rel=0.04)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_noise_is_clipped(kind):
    image = np.tile(np.array([2.0, 128, 253])[None, :, None], (60, 20, 3))
    noisy = run(image, Noise(kind, 3.0 if kind == "poisson" else 30.0, False, 1))
    assert noisy.min() == 0 and noisy.max() == 255


def pillow_jpeg(image, quality, **options):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality, **options)
    return Image.open(data)


@pytest.mark.parametrize("quality", [30, 49, 75, 95])
def test_jpeg_is_the_codec(quality):
    image = photo(93, 122)
    pillow = pillow_jpeg(image, quality)
    ours = run(image, Jpeg(quality))
    assert np.abs(ours - np.asarray(pillow)).mean() < 0.1  # 0 where both are built on one libjpeg
    lost = np.abs(ours - image).mean()
    full_chroma = np.abs(ours - np.asarray(pillow_jpeg(image, quality, subsampling=0))).mean()
    assert min(full_chroma, lost) > 1


def test_a_shifted_jpeg_has_its_blocks_elsewhere():
    image = photo(64, 80)
    larger = np.pad(image, ((3, 0), (5, 0), (0, 0)), mode="edge")
    shifted = run(image, Jpeg(30, (3, 5)))
    np.testing.assert_array_equal(shifted, run(larger, Jpeg(30))[3:, 5:])
    assert np.abs(shifted - run(image, Jpeg(30))).mean() > 0.5


def test_webp_is_the_codec():
    image = photo(64, 80)
    data = io.BytesIO()
    Image.fromarray(image).save(data, "WEBP", quality=40, method=4)
    ours = run(image, WebP(40))
    assert np.abs(ours - np.asarray(Image.open(data))).mean() < 2 < np.abs(ours - image).mean()


def test_a_lens_averages_light():
    """Half of white on black is 188 of 255 then, not 128; the middle of one tone stays as it is."""
    image = np.zeros((16, 40, 3), np.uint8)
    image[:, 20:] = 255
    kernel = np.full((1, 2 * 4 + 1), 1 / 9, np.float32)
    for source in (image, image.astype(np.float32)):
        light = steps.blur(source, Blur(kernel, light=True), Scratch())
        expected = 255 * (np.arange(10) / 9) ** (1 / 2.2)
        np.testing.assert_allclose(light[8, 15:25, 0], expected, atol=0.1)
    np.testing.assert_allclose(run(np.full((9, 9, 3), 77.0), Blur(kernel, light=True)), 77, atol=0.01)


def test_blotches_of_colour_have_no_luma():
    flat = np.full((200, 300, 3), 127.0)
    noise = run(flat, Chroma(8.0, 3)) - 127
    assert np.abs(noise @ [0.299, 0.587, 0.114]).max() < 1e-2 and 3 < noise.std() < 8
    blue = noise[..., 2]
    assert (blue[:, 1:] * blue[:, :-1]).mean() > 0.5 * blue.var() > 3 * abs((blue[:, 6:] * blue[:, :-6]).mean())


def test_sharpening_leaves_halos():
    image = np.full((20, 40, 3), 60.0)
    image[:, 20:] = 180
    edge = run(image, Sharpen(1.0, 0.8))[10, :, 0]
    assert edge[18:20].min() < 50 and edge[20:22].max() > 190
    np.testing.assert_allclose(edge[[0, 39]], [60, 180], atol=0.01)
    np.testing.assert_allclose(edge[:20] - 60, 180 - edge[:19:-1], atol=0.01)  # the same on both sides


def test_memory_that_serves_again_changes_nothing():
    scratch = Scratch()
    for seed, (height, width) in enumerate([(160, 96), (64, 64), (200, 240), (8, 12), (64, 64)]):
        image = photo(height, width, seed)
        plan = draw_plan(Degradation.preset("wide" if seed % 2 else "real-esrgan"), rng(seed), height, width)
        before = image.copy()
        used = steps.apply(plan, image, scratch).copy()
        np.testing.assert_array_equal(used, steps.apply(plan, image, Scratch()))
        np.testing.assert_array_equal(image, before)
    huge = scratch.array("even", (steps._KEPT // 4 + 1,))
    assert huge.size * 4 > steps._KEPT > scratch._buffers["even"].nbytes
