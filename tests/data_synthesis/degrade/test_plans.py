"""Plans: how often each branch is drawn, and from which ranges."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from helpers.degradations import moments, rng
from tadisr.data_synthesis.degrade import Degradation, Mixture, Order, draw_plan
from tadisr.data_synthesis.degrade.steps import MODES, Blur, Chroma, Jpeg, Noise, Resize, Sharpen, WebP

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


def widest(plan):
    """The largest standard deviation of the plan's widest kernel, pixels of the image that it blurs."""
    spreads = [np.linalg.eigvalsh(moments(step.kernel)[1])[1] for step in plan if isinstance(step, Blur)]
    return math.sqrt(max(spreads))


def test_the_wide_preset_is_mostly_mild_and_reaches_far():
    config = Degradation.preset("wide")
    drawn = [draw_plan(config, rng(seed), 96, 96) for seed in range(PLANS)]
    phones = [plan for plan in drawn if get(plan, Sharpen)]
    close(len(phones), 0.2)
    widths = np.array([widest(plan) for plan in drawn if get(plan, Blur)])
    # Beyond `mild` lie parts of the soft and most of the harsh images; short of it half of the sharp ones.
    assert 0.05 < (widths > 2.35).mean() < 0.15 and widths.max() > 5.5 and 0.01 < (widths < 0.5).mean() < 0.05
    qualities = [step.quality for plan in drawn for step in plan if isinstance(step, Jpeg)]
    assert min(qualities) < 15 and max(qualities) == 95
    twice = [plan for plan in phones if get(plan, Jpeg)]
    close(len(phones) - len(twice), 0.3, len(phones))
    for plan in phones:
        *before, chroma, halo = plan[: next(i for i, step in enumerate(plan) if isinstance(step, Sharpen)) + 1]
        assert isinstance(before[0], Blur) and isinstance(before[-1], Noise) and before[-1].kind == "poisson"
        assert isinstance(chroma, Chroma) and 0 <= chroma.sigma <= 9 and 0.1 <= halo.amount <= 0.9
        codecs = [step for step in plan if isinstance(step, (Jpeg, WebP))]
        assert plan[-len(codecs) :] == codecs and len(codecs) == (2 if get(plan, Jpeg) else 1)
    close(sum(plan[0].light for plan in phones), 0.5, len(phones))
    shifts = {get(plan, Jpeg).shift for plan in twice}
    assert {down for down, _ in shifts} == {right for _, right in shifts} == set(range(8))


def test_a_mixture_is_its_parts_in_their_shares_and_scale():
    mild = Degradation.preset("mild")
    config = Mixture(((3, replace(mild, first_prob=1)), (1, replace(mild, first_prob=0))), scale=2)
    drawn = [draw_plan(config, rng(seed), 96, 96) for seed in range(400)]
    close(sum(sum(isinstance(step, Noise) for step in plan) == 2 for plan in drawn), 0.75, 400)
    assert all([step for step in plan if isinstance(step, Resize)][-1].height == 48 for plan in drawn)
