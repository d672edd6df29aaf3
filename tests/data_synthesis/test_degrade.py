"""Degradation, against values computed in other ways: closed forms, explicit sums, Pillow's codec."""

import io
import math
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tadisr.data_synthesis.degrade import Degradation, Order, degrade, degrade_batch, draw_plan, generic, steps
from tadisr.data_synthesis.degrade.config import KINDS
from tadisr.data_synthesis.degrade.kernels import (
    disk_kernel,
    gaussian_kernel,
    gaussian_vector,
    motion_kernel,
    plateau_kernel,
    sinc_kernel,
)
from tadisr.data_synthesis.degrade.steps import Blur, Jpeg, Noise, Resize, Scratch

MODES = ("area", "bilinear", "bicubic")


def rng(seed=0):
    return np.random.default_rng(seed)


def photo(height, width, seed=0):
    """Soft colours with a hard edge, (height, width, 3) uint8."""
    coarse = rng(seed).uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    image[height // 3 : height // 2, width // 4 : width // 2] = (250, 240, 20)
    return image


def by_opencv(image, step):
    """One step on a float image, RGB in and out."""
    bgr = np.ascontiguousarray(image[..., ::-1], dtype=np.float32)
    return steps.FUNCTIONS[type(step)](bgr, step, Scratch())[..., ::-1].astype(np.float64)


def by_torch(image, step):
    chw = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)
    return generic.FUNCTIONS[type(step)](chw, step).permute(1, 2, 0).double().numpy()


BACKENDS = pytest.mark.parametrize("run", [by_opencv, by_torch])


def full(kernel):
    return np.outer(kernel, kernel) if kernel.ndim == 1 else kernel


def moments(kernel):
    """Mean and covariance of (x, y) under the kernel."""
    kernel = full(kernel).astype(np.float64)
    y, x = (np.arange(side) - side // 2 for side in kernel.shape)
    points = np.stack([axis.ravel() for axis in np.meshgrid(x, y)])
    mean = points @ kernel.ravel()
    return mean, (points * kernel.ravel()) @ points.T - np.outer(mean, mean)


def covariance(sigma_x, sigma_y, angle):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T


def by_formula(shape, size, sigma_x, sigma_y, angle):
    """`shape` of the squared Mahalanobis distance, pixel by pixel, normalised."""
    inverse = np.linalg.inv(covariance(sigma_x, sigma_y, angle))
    weights = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            offset = np.array([j - size // 2, i - size // 2])
            weights[i, j] = shape(offset @ inverse @ offset)
    return weights / weights.sum()


def padded(kernel, size):
    return np.pad(full(kernel), [((size - side) // 2,) * 2 for side in full(kernel).shape])


SIGMAS, ANGLES = st.floats(0.2, 3), st.floats(-math.pi, math.pi)
SIZES = st.sampled_from(range(7, 22, 2))
ANY_KERNEL = st.one_of(
    st.builds(gaussian_vector, SIGMAS, SIZES | st.none()),
    st.builds(gaussian_kernel, SIGMAS, SIGMAS, ANGLES, st.floats(0.5, 4), SIZES | st.none()),
    st.builds(plateau_kernel, SIGMAS, SIGMAS, ANGLES, st.floats(1, 2), SIZES),
    st.builds(sinc_kernel, st.floats(math.pi / 5, math.pi), SIZES),
    st.builds(disk_kernel, st.floats(1.5, 8)),
    st.builds(motion_kernel, st.integers(2, 9), st.floats(0, math.pi)),
)


@settings(deadline=None, max_examples=150)
@given(kernel=ANY_KERNEL)
def test_kernels_sum_to_one_and_stay_in_place(kernel):
    assert kernel.dtype == np.float32 and all(side % 2 for side in kernel.shape) and max(kernel.shape) <= 21
    kernel = full(kernel)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    np.testing.assert_allclose(moments(kernel)[0], 0, atol=1e-5)


@pytest.mark.parametrize(("sigma_x", "sigma_y", "angle"), [(1.5, 1.5, 0), (2.4, 0.9, 0.3), (0.8, 2.0, -2.0)])
def test_gaussians_have_their_widths_and_directions(sigma_x, sigma_y, angle):
    expected = covariance(sigma_x, sigma_y, angle)
    np.testing.assert_allclose(moments(gaussian_kernel(sigma_x, sigma_y, angle, size=21))[1], expected, atol=4e-3)
    three_sigmas = moments(gaussian_kernel(sigma_x, sigma_y, angle))[1]
    np.testing.assert_allclose(three_sigmas, expected, atol=0.04 * max(sigma_x, sigma_y) ** 2)
    axes, vectors = np.linalg.eigh(moments(gaussian_kernel(sigma_x, sigma_y, angle, size=21))[1])
    if sigma_x != sigma_y:  # the first axis lies at `angle`, from +x towards +y
        along = vectors[:, int(sigma_x > sigma_y)]
        assert abs(along @ [math.cos(angle), math.sin(angle)]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("beta", [1, 1.5, 2, 4])
def test_generalised_gaussians_have_the_width_of_the_closed_form(beta):
    # The integral of r^3 exp(-r^(2 beta) / 2) over that of r exp(...), halved for one axis.
    expected = 9 * 2 ** (1 / beta) * math.gamma(2 / beta) / math.gamma(1 / beta) / 2
    np.testing.assert_allclose(
        moments(gaussian_kernel(3, 3, beta=beta, size=41))[1], np.diag([expected] * 2), rtol=0.01, atol=1e-3
    )


@pytest.mark.parametrize("size", [7, 13, 21])
@pytest.mark.parametrize("ellipse", [(0.2, 0.2, 0), (0.4, 1.1, 0.5), (3, 3, 0), (2.8, 0.7, 2.5)])
def test_kernels_are_the_published_formulas_cut_to_their_size(size, ellipse):
    def same(kernel, shape):
        error = np.abs(padded(kernel, size) - by_formula(shape, size, *ellipse)).sum()
        assert error < 1.5e-4  # 0.04 levels at worst: where the weights are negligible they are left out

    for beta in (0.5, 0.8, 1, 2.5, 4):
        same(gaussian_kernel(*ellipse, beta, size), lambda q, beta=beta: math.exp(-0.5 * q**beta))
    for beta in (1, 1.3, 2):
        same(plateau_kernel(*ellipse, beta, size), lambda q, beta=beta: 1 / (q**beta + 1))
    if ellipse[0] == ellipse[1]:
        same(gaussian_vector(ellipse[0], size), lambda q: math.exp(-0.5 * q))


def test_plateaus_are_flat_then_steep():
    for beta in (1, 1.5, 2):
        kernel = plateau_kernel(5, 5, beta=beta, size=21)
        assert kernel[10, 15] / kernel[10, 10] == pytest.approx(0.5, abs=1e-4)  # at one sigma, whatever beta
    wide, steep = (plateau_kernel(5, 5, beta=beta, size=21)[10] for beta in (1, 2))
    assert steep[12] / steep[10] > wide[12] / wide[10] and steep[19] / steep[10] < wide[19] / wide[10]


@pytest.mark.parametrize("cutoff", [math.pi / 5, math.pi / 3, 2.0])
def test_sinc_kernels_pass_what_is_below_their_cutoff(cutoff):
    kernel = np.zeros((512, 512))
    kernel[:151, :151] = sinc_kernel(cutoff, 151)
    response = np.abs(np.fft.fft2(kernel))
    frequencies = 2 * np.pi * np.fft.fftfreq(512)
    radius = np.hypot(frequencies, frequencies[:, None])
    assert response[radius < cutoff - 0.15].min() > 0.9
    assert response[radius > cutoff + 0.15].max() < 0.1
    at = response[0, np.argmin(np.abs(frequencies - cutoff))]
    assert at == pytest.approx(0.5, abs=0.12)
    small = sinc_kernel(cutoff, 21)  # the published sizes are cut from the same function
    middle = sinc_kernel(cutoff, 151)[65:86, 65:86]
    np.testing.assert_allclose(small / small[10, 10], middle / middle[10, 10], atol=1e-6)


def test_disks_and_lines_have_their_widths():
    for diameter in (3, 4.5, 7):
        chord = np.linspace(-diameter / 2, diameter / 2, 20001)
        length = np.sqrt(diameter**2 / 4 - chord**2)
        expected = (length * chord.round() ** 2).sum() / length.sum()  # each point counts for its pixel
        spread = moments(disk_kernel(diameter))[1]
        np.testing.assert_allclose(spread, np.diag([expected] * 2), rtol=0.02, atol=1e-6)
    for length, angle in ((3, 0), (5, math.pi / 2), (9, 0.6)):
        along = np.array([math.cos(angle), math.sin(angle)])
        spread = moments(motion_kernel(length, angle))[1]
        assert along @ spread @ along == pytest.approx((length**2 - 1) / 12, abs=0.26)  # and its pixels' own
        assert along[::-1] * (1, -1) @ spread @ (along[::-1] * (1, -1)) < 0.26
    np.testing.assert_allclose(motion_kernel(3, 0)[2, 1:4], 1 / 3, atol=1e-6)


KERNELS = {
    "separable": gaussian_vector(1.7, 15),
    "direct": gaussian_kernel(1.3, 0.6, 0.7, size=9),
    "fourier": sinc_kernel(1.2, 21),
    "fourier, oblong": gaussian_kernel(3, 1.5, 0.2, 0.7, size=21)[3:-3],
}


@BACKENDS
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("shape", [(70, 93), (8, 75)])
def test_blur_is_the_sum_over_the_kernel(run, name, shape):
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


@BACKENDS
@pytest.mark.parametrize("size", [(20, 11), (61, 77), (40, 53), (60, 106)])
def test_resizing_is_interpolation_or_a_mean_over_areas(run, size):
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


def centre(image):
    """(y, x) in pixels from the corner of the first pixel, of what is brighter than the border."""
    weight = image[..., 0].astype(np.float64)
    weight -= np.median(weight[0])
    return np.array([(np.arange(n) + 0.5) @ weight.sum(1 - axis) / weight.sum() for axis, n in enumerate(weight.shape)])


@BACKENDS
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [0.15, 0.43, 0.8, 1.37])
def test_resizing_moves_nothing(run, mode, factor):
    image = np.zeros((120, 160, 3), np.float32)
    image[40:70, 50:90] = 200  # centred on (55, 70)
    image = cv2.GaussianBlur(image, (0, 0), 6)  # nothing between the samples of a far reduction
    height, width = int(120 * factor), int(160 * factor)
    resized = run(image, Resize(height, width, mode))
    # From 7 pixels per sample on, the samples themselves are a few hundredths off.
    np.testing.assert_allclose(centre(resized) * (120 / height, 160 / width), (55, 70), atol=0.06)


@pytest.mark.parametrize("kind", [*KINDS, "sinc"])
def test_no_kernel_moves_the_image(kind):
    image = np.zeros((64, 96, 3), np.uint8)
    image[20:41, 40:57] = 255  # centred on (30.5, 48.5)
    sinc = {"sinc_prob": 1.0} if kind == "sinc" else {"sinc_prob": 0.0, "kernels": {kind: 1}}
    quiet = {"resize_weights": (0, 0, 1), "noise_sigma": (0, 0), "gaussian_prob": 1, "jpeg_prob": 0}
    order = Order(**sinc, **quiet)
    config = Degradation(scale=1, first=order, second=replace(order, blur_prob=0), final_sinc_prob=0)
    for seed in range(5):
        np.testing.assert_allclose(centre(degrade(image, config, rng(seed))), (30.5, 48.5), atol=0.02)


@pytest.mark.parametrize("preset", ["real-esrgan", "mild"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_whole_chain_moves_nothing(preset, scale):
    image = np.full((128, 192, 3), 20, np.uint8)
    image[48:80, 80:112] = 235  # centred on (64, 96)
    config = Degradation.preset(preset)
    quiet = {"noise_sigma": (0, 0), "gaussian_prob": 1, "jpeg_prob": 0}
    config = replace(
        config,
        scale=scale,
        first=replace(config.first, **quiet, resize_range=(0.5, 1.5)),
        second=replace(config.second, **quiet, resize_range=(0.5, 1.2)),
    )
    for seed in range(12):
        lr = degrade(image, config, rng(seed))
        assert lr.shape == (128 // scale, 192 // scale, 3) and lr.dtype == np.uint8
        np.testing.assert_allclose(centre(lr), (64 / scale, 96 / scale), atol=0.1)


@BACKENDS
def test_gaussian_noise_has_its_moments(run):
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


@BACKENDS
def test_poisson_noise_has_its_moments(run):
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


@BACKENDS
@pytest.mark.parametrize(("levels", "photons"), [(1, 1), (2, 2), (5, 8), (129, 256)])
def test_fewer_levels_mean_fewer_photons(run, levels, photons):
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
    noise = by_opencv(image, Noise("poisson", 0.3, False, 2))[32:] - 90
    assert noise.var() == pytest.approx(0.09 * 90 * 255 / 64, rel=0.1)  # 50 levels: 64 photons


@BACKENDS
@pytest.mark.parametrize(("colour", "luma"), [((230, 20, 20), 83), ((20, 20, 230), 44)])
def test_gray_poisson_noise_follows_the_luma(run, colour, luma):
    image = np.tile(np.array(colour, dtype=np.float64), (300, 300, 1))
    image[:, :, 1] += np.arange(300) % 2 * 2  # two levels: two photons
    noise = run(image, Noise("poisson", 0.05, True, 4)) - image
    assert noise[..., 0].var() == pytest.approx(0.0025 * luma * 255 / 2, rel=0.04)


@BACKENDS
@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_noise_is_clipped(run, kind):
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
    ours = by_opencv(image, Jpeg(quality))
    assert np.abs(ours - np.asarray(pillow)).mean() < 0.1  # 0 where both are built on one libjpeg
    lost = np.abs(ours - image).mean()
    full_chroma = np.abs(ours - np.asarray(pillow_jpeg(image, quality, subsampling=0))).mean()
    on_torch = np.abs(by_torch(image, Jpeg(quality)) - np.asarray(pillow)).mean()
    assert on_torch < 0.5 and on_torch < 0.25 * min(full_chroma, lost)


def test_jpeg_on_torch_fills_the_last_blocks_as_the_codec_does():
    differences = []
    for seed, shape in enumerate([(24, 40), (20, 36), (17, 33), (25, 18)] * 3):
        image = photo(*shape, seed)
        differences.append(np.abs(by_torch(image, Jpeg(60)) - np.asarray(pillow_jpeg(image, 60))))
    assert np.mean([difference[-2:].mean() for difference in differences]) < 0.4
    assert np.mean([difference[:, -2:].mean() for difference in differences]) < 0.4


def test_torch_quantises_as_pillows_encoder_does():
    for quality in range(1, 101):
        tables = pillow_jpeg(np.zeros((16, 16, 3), np.uint8), quality).quantization
        for pillow, base in zip((tables[0], tables[1]), (generic.LUMA, generic.CHROMA), strict=True):
            np.testing.assert_array_equal(generic.quantisation_table(base, quality).ravel(), pillow)


@pytest.mark.parametrize("preset", ["real-esrgan", "mild"])
def test_torch_carries_out_the_same_plans(preset):
    image = photo(96, 128)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for seed in range(8):
        plan = draw_plan(Degradation.preset(preset), rng(seed), 96, 128)
        # JPEG, tested above, would enlarge differences of one level; noise has generators of its own.
        smooth = [step for step in plan if isinstance(step, (Blur, Resize))]
        ours = steps.apply(smooth, np.ascontiguousarray(image[..., ::-1]), Scratch())[..., ::-1].astype(int)
        assert np.abs(ours - generic.apply(smooth, tensor).permute(1, 2, 0).numpy()).max() <= 1
        first, second = (generic.apply(plan, tensor) for _ in range(2))
        assert torch.equal(first, second) and first.dtype == torch.uint8 and first.shape == (3, 24, 32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_its_own_images_of_the_same_plans():
    images = torch.stack([torch.from_numpy(photo(96, 128, seed)).permute(2, 0, 1) for seed in range(4)])
    seeds = range(4)
    cuda = degrade_batch(images.cuda(), Degradation(), [rng(seed) for seed in seeds])
    assert cuda.device.type == "cuda" and cuda.shape == (4, 3, 24, 32)
    again = degrade_batch(images[2:3].cuda(), Degradation(), [rng(2)])
    assert torch.equal(cuda[2:3], again)
    cpu = degrade_batch(images, Degradation(), [rng(seed) for seed in seeds])
    assert (cuda.cpu().float().mean((1, 2, 3)) - cpu.float().mean((1, 2, 3))).abs().max() < 12


@pytest.mark.parametrize("preset", ["real-esrgan", "mild"])
def test_an_image_depends_on_its_seed_alone(preset):
    """Not on the batch, its order, the images before it, or the number of threads."""
    config = Degradation.preset(preset)
    images = torch.stack([torch.from_numpy(photo(112, 144, seed)).permute(2, 0, 1) for seed in range(8)])
    whole = degrade_batch(images, config, [rng(seed) for seed in range(8)])
    assert whole.shape == (8, 3, 28, 36) and whole.dtype == torch.uint8
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        for count in (2, 1):
            torch.set_num_threads(count)
            cv2.setNumThreads(count)
            for size in (1, 3):
                parts = [
                    degrade_batch(images[at : at + size], config, [rng(seed) for seed in range(at, min(at + size, 8))])
                    for at in range(0, 8, size)
                ]
                assert torch.equal(torch.cat(parts), whole)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    order = [5, 0, 7, 2]
    assert torch.equal(degrade_batch(images[order], config, [rng(seed) for seed in order]), whole[order])
    channels_last = images.to(memory_format=torch.channels_last)
    assert torch.equal(degrade_batch(channels_last, config, [rng(seed) for seed in range(8)]), whole)
    for seed in range(8):
        image = images[seed].permute(1, 2, 0).numpy()
        alone = degrade(image, config, rng(seed))
        np.testing.assert_array_equal(alone, whole[seed].permute(1, 2, 0).numpy())
        assert (alone != degrade(image, config, rng(seed + 1))).any()


def test_memory_that_serves_again_changes_nothing():
    scratch = Scratch()
    for seed, (height, width) in enumerate([(160, 96), (64, 64), (200, 240), (8, 12), (64, 64)]):
        image = photo(height, width, seed)
        plan = draw_plan(Degradation(), rng(seed), height, width)
        before = image.copy()
        used = steps.apply(plan, image, scratch).copy()
        np.testing.assert_array_equal(used, steps.apply(plan, image, Scratch()))
        np.testing.assert_array_equal(image, before)
    huge = scratch.array("even", (steps._KEPT // 4 + 1,))
    assert huge.size * 4 > steps._KEPT > scratch._buffers["even"].nbytes


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 999), preset=st.sampled_from([0.0, 1.0])
)
def test_any_size_works(height, width, seed, preset):
    config = Degradation.preset("real-esrgan" if preset else "mild")
    image = rng(seed).integers(0, 256, (4 * height, 4 * width, 3), dtype=np.uint8)
    assert degrade(image, config, rng(seed)).shape == (height, width, 3)
    plan = draw_plan(config, rng(seed), 4 * height, 4 * width)
    assert generic.apply(plan, torch.from_numpy(image).permute(2, 0, 1)).shape == (3, height, width)


PLANS = 3000


def close(count, share, of=PLANS):
    """Within four standard deviations of a binomial."""
    assert abs(count / of - share) < 4 * math.sqrt(share * (1 - share) / of) + 1 / of, (count / of, share)


def split(plan):
    """The first round, the second up to its noise, and the end."""
    first_end = next(i for i, step in enumerate(plan) if isinstance(step, Jpeg)) + 1
    second_end = first_end + next(i for i, step in enumerate(plan[first_end:]) if isinstance(step, Noise)) + 1
    return plan[:first_end], plan[first_end:second_end], plan[second_end:]


def get(steps, kind):
    return next((step for step in steps if isinstance(step, kind)), None)


@pytest.fixture(scope="module")
def plans():
    return [split(draw_plan(Degradation(), rng(seed), 512, 512)) for seed in range(PLANS)]


def test_branches_have_the_published_probabilities(plans):
    """The numbers are those of the training options of Real-ESRGAN x4plus."""
    rounds = (
        (0, 512, (0.2, 0.7, 0.1), (0.15, 1.5), 30, (0.05, 3), 1.0),
        (1, 128, (0.3, 0.4, 0.3), (0.3, 1.2), 25, (0.05, 2.5), 0.8),
    )
    for which, base, (up, down, keep), (low, high), sigma, (weak, strong), blur in rounds:
        drawn = [plan[which] for plan in plans]
        # A resize that keeps the size is left out: in the second round, when the first has left the LR size.
        factors = np.array([(get(steps, Resize).height if get(steps, Resize) else base) / base for steps in drawn])
        close((factors > 1).sum(), up * (1 - 1 / base / (high - 1)))  # so close to 1 that no pixel is added
        close((factors < 1).sum(), down)
        assert low - 1 / base <= factors.min() < low + 0.02 and high - 0.02 < factors.max() <= high
        assert factors[factors < 1].mean() == pytest.approx((low + 1) / 2, abs=0.02)
        assert keep == pytest.approx(1 - up - down)
        resized = [get(steps, Resize).mode for steps in drawn if get(steps, Resize)]
        for mode in MODES:
            close(resized.count(mode), 1 / 3, len(resized))
        noise = [get(steps, Noise) for steps in drawn]
        gaussian = [step.strength for step in noise if step.kind == "gaussian"]
        poisson = [step.strength for step in noise if step.kind == "poisson"]
        close(len(gaussian), 0.5)
        close(sum(step.gray for step in noise), 0.4)
        for values, lowest, largest in ((gaussian, 1, sigma), (poisson, weak, strong)):
            assert lowest <= min(values) and max(values) <= largest
            assert np.mean(values) == pytest.approx((lowest + largest) / 2, rel=0.04)
        kernels = [get(steps, Blur).kernel for steps in drawn if get(steps, Blur)]
        assert 0.97 * blur < len(kernels) / PLANS < blur + 0.03  # the narrowest, all weight in one pixel, are left out
        close(sum(kernel.ndim == 1 for kernel in kernels), 0.9 * 0.45, len(kernels))
        close(sum(kernel.min() < -1e-6 for kernel in kernels), 0.1, len(kernels))  # sinc
    qualities = [[step.quality for steps in plan for step in steps if isinstance(step, Jpeg)] for plan in plans]
    assert all(len(pair) == 2 for pair in qualities)
    for column in np.array(qualities).T:
        assert column.min() == 30 and column.max() == 95 and column.mean() == pytest.approx(62.5, abs=1.3)
    ends = [plan[2] for plan in plans]
    close(sum(get(end, Blur) is not None for end in ends), 0.8)
    close(sum(isinstance(end[-1], Jpeg) for end in ends if len(end) > 1), 0.5, sum(len(end) > 1 for end in ends))
    seeds = [step.seed for plan in plans for steps in plan for step in steps if isinstance(step, Noise)]
    assert len(set(seeds)) == 2 * PLANS


def test_plans_end_at_the_low_resolution(plans):
    for _, second, end in plans:
        resizes = [step for step in (*second, *end) if isinstance(step, Resize)]
        assert not resizes or (resizes[-1].height, resizes[-1].width) == (128, 128)
        kinds = [type(step) for step in end]
        assert kinds.count(Jpeg) == 1
        if Resize in kinds and Blur in kinds:
            assert kinds.index(Blur) == kinds.index(Resize) + 1  # nothing between them


def first_kernels(order, count=1200):
    plain = replace(order, resize_weights=(0, 0, 1), jpeg_prob=0)
    config = Degradation(first=plain)
    drawn = (draw_plan(config, generator, 64, 64)[0] for generator in map(rng, range(count)))
    return [step.kernel for step in drawn if isinstance(step, Blur)]


def sigma_of(vector):
    """Of a Gaussian, from the ratio of its two central weights."""
    middle = len(vector) // 2
    return 1 / math.sqrt(2 * math.log(vector[middle] / vector[middle + 1]))


def test_kernels_are_drawn_from_the_published_ranges():
    sigmas = [sigma_of(kernel) for kernel in first_kernels(Order(kernels={"iso": 1}, sinc_prob=0))]
    assert 0.2 <= min(sigmas) < 0.23 and 2.97 < max(sigmas) <= 3.001
    assert np.mean(sigmas) == pytest.approx(1.6, abs=0.1)
    kernels = first_kernels(Order(kernels={"plateau_iso": 1}, sinc_prob=0))
    sizes = [len(kernel) for kernel in kernels]
    for size in range(7, 22, 2):
        close(sizes.count(size), 1 / 8, len(sizes))
    middle = [kernel[len(kernel) // 2, len(kernel) // 2 :] for kernel in kernels]
    # 1 / (1 + (n / sigma)^(2 beta)): two weights give both parameters
    odds = np.array([(row[0] / row[1] - 1, row[0] / row[2] - 1) for row in middle])
    betas = np.log(odds[:, 1] / odds[:, 0]) / (2 * math.log(2))
    close((betas < 1.001).sum(), 0.5, len(betas))  # between the low end, 1, and 1
    assert betas.min() > 0.99 and betas.max() < 2.01
    assert betas[betas > 1.001].mean() == pytest.approx(1.5, abs=0.05)
    kernels = first_kernels(Order(kernels={"generalized_iso": 1}, sinc_prob=0, sigma=(2, 2)))
    logs = np.array(
        [
            np.log(row[0] / row[[1, 2]])
            for row in (kernel[len(kernel) // 2, len(kernel) // 2 :].astype(np.float64) for kernel in kernels)
        ]
    )
    betas = np.log(logs[:, 1] / logs[:, 0]) / (2 * math.log(2))
    close((betas < 1).sum(), 0.5, len(betas))
    assert betas.min() > 0.49 and betas.max() < 4.1
    assert betas[betas < 1].mean() == pytest.approx(0.75, abs=0.03)
    assert betas[betas > 1].mean() == pytest.approx(2.5, abs=0.15)


def bessel_j1(x):
    """By its power series."""
    return sum((-1) ** m * (x / 2) ** (2 * m + 1) / (math.factorial(m) * math.factorial(m + 1)) for m in range(20))


def test_sinc_cutoffs_are_drawn_from_the_published_ranges():
    cutoffs = np.linspace(0.3, 3.3, 4000)
    ratios = cutoffs / (2 * np.array([bessel_j1(cutoff) for cutoff in cutoffs]))  # centre to its neighbour: rises

    def measured(kernel):
        middle = len(kernel) // 2
        return np.interp(kernel[middle, middle] / kernel[middle, middle + 1], ratios, cutoffs)

    kernels = first_kernels(Order(sinc_prob=1))
    for small, low in ((True, math.pi / 3), (False, math.pi / 5)):
        found = [measured(kernel) for kernel in kernels if (len(kernel) < 13) == small]
        assert low - 2e-3 < min(found) < low + 0.05 and math.pi - 0.05 < max(found) < math.pi + 2e-3
        assert np.mean(found) == pytest.approx((low + math.pi) / 2, abs=0.09)
    for size, low in ((11, math.pi / 3), (13, math.pi / 5)):
        assert abs(min(measured(kernel) for kernel in kernels if len(kernel) == size) - low) < 0.12
    ends = [draw_plan(Degradation(final_sinc_prob=1), rng(seed), 64, 64) for seed in range(600)]
    final = [[step.kernel for step in plan if isinstance(step, Blur)][-1] for plan in ends]
    found = [measured(kernel) for kernel in final]
    assert math.pi / 3 - 2e-3 < min(found) < math.pi / 3 + 0.05 and {len(kernel) for kernel in final} == {
        *range(7, 22, 2)
    }


def test_ellipses_are_turned_every_way():
    kernels = first_kernels(Order(kernels={"aniso": 1}, sinc_prob=0, kernel_sizes=(21,), sigma=(0.7, 3)))
    directions = []
    for kernel in kernels:
        axes, vectors = np.linalg.eigh(moments(kernel)[1])
        if axes[1] > 1.5 * axes[0]:
            directions.append(math.atan2(*vectors[::-1, 1]) % math.pi)
    for low in np.arange(0, math.pi, math.pi / 4):
        close(sum(low <= angle < low + math.pi / 4 for angle in directions), 0.25, len(directions))


def test_disks_are_as_wide_as_opencvs_ellipses():
    for sigma, length in ((1.4, 3), (1.7, 4), (2.1, 5)):
        (kernel, *_) = first_kernels(
            Order(kernels={"disk": 1}, sinc_prob=0, kernel_sizes=None, sigma=(sigma, sigma)), count=1
        )
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (length, length)).astype(np.float64)
        y, x = np.nonzero(ellipse)
        assert np.trace(moments(kernel)[1]) == pytest.approx(y.var() + x.var(), rel=0.3)


def test_the_second_blur_can_be_in_hr_pixels():
    blurred = Order(kernels={"iso": 1}, sinc_prob=0, sigma=(2, 2), resize_weights=(0, 1, 0), resize_range=(0.5, 1))
    config = Degradation(first=blurred, second=blurred, second_strength=0.7)
    for seed in range(20):
        first, second, _ = split(draw_plan(config, rng(seed), 400, 400))
        assert sigma_of(get(first, Blur).kernel) == pytest.approx(2, rel=1e-3)
        assert sigma_of(get(second, Blur).kernel) == pytest.approx(1.4, rel=1e-3)
        scaled = split(draw_plan(replace(config, second_sigma_in_hr_pixels=True), rng(seed), 400, 400))[1]
        factor = get(first, Resize).height / 400
        assert sigma_of(get(scaled, Blur).kernel) == pytest.approx(1.4 * factor, rel=0.01)
        noise = [get(steps, Noise) for steps in (first, second)]
        assert noise[1].strength <= (21 if noise[1].kind == "gaussian" else 2.1)


def test_the_mild_preset_is_one_pass_and_now_and_then_two():
    """The ranges of the degradation that the embedded model was trained with."""
    config = Degradation.preset("mild")
    drawn = [draw_plan(config, rng(seed), 96, 96) for seed in range(PLANS)]
    assert all({type(step) for step in plan} <= {Blur, Resize, Noise, Jpeg} for plan in drawn)
    single = [plan for plan in drawn if sum(isinstance(step, Noise) for step in plan) == 1]
    double = [plan for plan in drawn if sum(isinstance(step, Noise) for step in plan) == 2]
    assert len(single) + len(double) == PLANS
    close(len(double), 0.1)
    codecs = [step.quality for plan in drawn for step in plan if isinstance(step, Jpeg)]
    close(len(codecs), 0.95, PLANS + len(double))
    assert min(codecs) == 45 and max(codecs) == 95
    for group, sigmas, widest in (
        (single, [(0.3, 7)], [2.3]),
        (double, [(0.21, 4.9), (0.18, 4.2)], [2.3 * 0.6, 2.3 * 0.6]),
    ):
        for at, ((low, high), sigma) in enumerate(zip(sigmas, widest, strict=True)):
            noise = [[step for step in plan if isinstance(step, Noise)][at] for plan in group]
            assert all(step.kind == "gaussian" and low <= step.strength <= high for step in noise)
            assert np.mean([step.strength for step in noise]) == pytest.approx((low + high) / 2, rel=0.08)
            close(sum(step.gray for step in noise), 0.3, len(noise))
            spreads = [
                np.linalg.eigvalsh(moments([step for step in plan if isinstance(step, Blur)][at].kernel)[1])
                for plan in group
            ]
            assert max(spread[1] for spread in spreads) < 1.05 * sigma**2
        for plan in group:
            resizes = [step for step in plan if isinstance(step, Resize)]
            assert (resizes[-1].height, resizes[-1].width) == (24, 24)
            assert len(resizes) <= len(sigmas) and all(48 <= step.height < 96 for step in resizes[:-1])
    assert {step.mode for plan in single for step in plan if isinstance(step, Resize)} == set(MODES)
    gaussians = [s.kernel for plan in single for s in plan if isinstance(s, Blur) and (s.kernel[0] > 0).all()]
    # Disks and lines leave corners empty, but for the disks of 1.5 pixels, drawn below a sigma of 1.2.
    close(len(gaussians), 0.9 + 0.05 * (1.2 - 0.5) / 1.8, len(single))
    mean = np.mean([np.trace(moments(kernel)[1]) for kernel in gaussians])
    assert mean == pytest.approx(2 * (2.3**3 - 0.5**3) / 3 / 1.8, rel=0.05)  # twice the mean square of U(0.5, 2.3)


def test_the_defaults_are_the_published_options():
    assert Degradation() == Degradation.preset("real-esrgan") == Degradation.from_dict({})
    config = asdict(Degradation())
    assert list(config["first"]["kernels"].values()) == [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    published = {
        "sinc_prob": (0.1, 0.1),
        "sigma": ((0.2, 3), (0.2, 1.5)),
        "beta_generalized": ((0.5, 4), (0.5, 4)),
        "beta_plateau": ((1, 2), (1, 2)),
        "blur_prob": (1, 0.8),
        "resize_weights": ((0.2, 0.7, 0.1), (0.3, 0.4, 0.3)),
        "resize_range": ((0.15, 1.5), (0.3, 1.2)),
        "gaussian_prob": (0.5, 0.5),
        "noise_sigma": ((1, 30), (1, 25)),
        "poisson_scale": ((0.05, 3), (0.05, 2.5)),
        "gray_prob": (0.4, 0.4),
        "jpeg_quality": ((30, 95), (30, 95)),
    }
    for name, values in published.items():
        assert (config["first"][name], config["second"][name]) == values, name
    assert config["scale"] == 4 and config["final_sinc_prob"] == 0.8 and config["jpeg_last_prob"] == 0.5


def test_configs_are_read_from_yaml():
    text = """
    preset: mild
    scale: 2
    first_prob: 0.25
    second: {sigma: [1, 2], kernels: {iso: 3, disk: 1}, resize_modes: [area], jpeg_quality: [50, 60]}
    """
    config = Degradation.from_dict(yaml.safe_load(text))
    mild = Degradation.preset("mild")
    assert config.first == mild.first and config.scale == 2 and config.first_prob == 0.25
    assert config.second == replace(
        mild.second, sigma=(1, 2), kernels={"iso": 3, "disk": 1}, resize_modes=("area",), jpeg_quality=(50, 60)
    )
    assert Degradation.from_dict(asdict(mild)) == mild
    written = yaml.safe_load(yaml.dump({"first": {"kernel_sizes": None, "sinc_prob": 0}}))
    assert Degradation.from_dict(written).first.kernel_sizes is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "soft"}, "No degradation is called 'soft'; there are real-esrgan, mild"),
        ({"sclae": 4}, "Unknown keys in degradation: sclae"),
        ({"first": {"blur": 1, "sigmas": 2}}, "Unknown keys in first: blur, sigmas"),
        ({"second": 3}, "second must map names to values; got 3"),
        ({"scale": 0}, "scale must be a whole number of at least 1"),
        ({"scale": 2.5}, "scale must be a whole number of at least 1"),
        ({"first_prob": 1.2}, "first_prob must lie between 0 and 1; got 1.2"),
        ({"jpeg_last_prob": "often"}, "jpeg_last_prob must lie between 0 and 1; got 'often'"),
        ({"final_sinc_sizes": []}, "final_sinc_sizes needs odd sizes"),
        ({"second_strength": -1}, "second_strength and final_sinc_cutoff must be above 0"),
        ({"final_sinc_cutoff": [0, 1]}, "final_sinc_cutoff must be above 0"),
        ({"first": {"sigma": [3, 0.2]}}, "sigma must be .low, high. with 0 <= low <= high; got .3, 0.2."),
        ({"first": {"sigma": 3}}, "sigma must be .low, high."),
        ({"first": {"sigma": [0, 3]}}, "sigma must lie above 0"),
        ({"first": {"noise_sigma": [1, 2, 3]}}, "noise_sigma must be .low, high."),
        ({"first": {"beta_plateau": [1.5, 2]}}, "beta_plateau must include 1"),
        ({"first": {"resize_range": [0.5, 0.9]}}, "resize_range must include 1"),
        ({"first": {"kernels": {"box": 1}}}, "Unknown kernels: box. Known: iso, .*, disk, motion"),
        ({"first": {"kernels": {"iso": 0}}}, "kernels needs some frequencies of at least 0, not all 0"),
        ({"first": {"kernels": {"iso": 1, "disk": -1}}}, "kernels needs some frequencies"),
        ({"first": {"kernels": "iso"}}, "kernels must map kinds to frequencies; got 'iso'"),
        ({"first": {"resize_weights": [1, 2]}}, "resize_weights needs 3 frequencies"),
        ({"first": {"resize_modes": "area"}}, "resize_modes needs some of area, bilinear, bicubic; got 'area'"),
        ({"first": {"resize_modes": ["lanczos"]}}, "resize_modes needs some of"),
        ({"first": {"kernel_sizes": [7, 8]}}, "kernel_sizes needs odd sizes; got .7, 8."),
        ({"first": {"kernel_sizes": None}}, "sinc_prob needs kernel_sizes"),
        ({"first": {"jpeg_quality": [0, 50]}}, "jpeg_quality needs whole numbers from 1 to 100"),
        ({"first": {"jpeg_quality": [50, 101]}}, "jpeg_quality needs whole numbers from 1 to 100"),
    ],
)
def test_wrong_configs_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Degradation.from_dict(values)


def test_wrong_images_are_refused():
    image, config = photo(64, 64), Degradation()
    with pytest.raises(ValueError, match="Expected sides divisible by 4, got 64x63"):
        degrade(image[:63], config, rng())
    with pytest.raises(ValueError, match=r"Expected \(H, W, 3\) uint8, got \(64, 64\) uint8"):
        degrade(image[..., 0], config, rng())
    with pytest.raises(ValueError, match="uint8, got .* float32"):
        degrade(image.astype(np.float32), config, rng())
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    with pytest.raises(ValueError, match="one generator per image, got 2 for 1 images"):
        degrade_batch(batch, config, [rng(), rng()])
    with pytest.raises(ValueError, match="divisible by 4, got 62x64"):
        degrade_batch(batch[..., :62], config, [rng()])
    with pytest.raises(ValueError, match=r"Expected \(B, 3, H, W\) uint8, got \(1, 3, 64, 64\) torch.float32"):
        degrade_batch(batch.float(), config, [rng()])


def test_nothing_to_do_returns_the_image():
    idle = Order(blur_prob=0, resize_weights=(0, 0, 1), noise_sigma=(0, 0), gaussian_prob=1, jpeg_prob=0, sinc_prob=0)
    config = Degradation(scale=1, first=idle, second=idle, final_sinc_prob=0)
    image = photo(17, 23)
    assert draw_plan(config, rng(), 17, 23) == []
    lr = degrade(image, config, rng())
    np.testing.assert_array_equal(lr, image)
    assert not np.shares_memory(lr, image)
