"""Configurations: published defaults, YAML, and refusals."""

import json
from dataclasses import asdict, replace

import pytest
import yaml

from tadisr.data_synthesis.degrade import Degradation, Mixture, Phone


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


def test_a_mixture_is_mostly_mild_and_takes_a_scale():
    wide = Degradation.preset("wide")
    shares = {json.dumps(asdict(part)): share for share, part in wide.parts}
    assert sum(shares.values()) == pytest.approx(1) and shares[json.dumps(asdict(Degradation.preset("mild")))] == 0.62
    assert Degradation.from_dict({"preset": "wide", "scale": 2}) == replace(wide, scale=2)
    with pytest.raises(ValueError, match="parts needs some frequencies"):
        Mixture(())
    with pytest.raises(ValueError, match="motion_prob must lie between 0 and 1"):
        Phone(motion_prob=2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "soft"}, "No degradation is called 'soft'; there are real-esrgan, mild, wide"),
        (
            {"preset": "wide", "first": {"sigma": [1, 2]}},
            "A preset that mixes degradations takes scale alone; got first",
        ),
        ({"preset": "wide", "scale": 0}, "scale must be a whole number of at least 1"),
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
