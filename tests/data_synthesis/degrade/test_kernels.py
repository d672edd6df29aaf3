"""Blur kernels against their formulas, summed pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.degradations import full, moments
from tadisr.data_synthesis.degrade.kernels import (
    disk_kernel,
    gaussian_kernel,
    gaussian_vector,
    motion_kernel,
    plateau_kernel,
    sinc_kernel,
)


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
