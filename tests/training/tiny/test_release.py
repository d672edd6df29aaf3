"""The bundled form of trained weights: averages and strength."""

import json

import pytest
import torch

from helpers import tiny, tiny_textdiff
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
from tadisr.training.tiny.release import release


def saved(folder, seed):
    pipe = tiny.lean()
    torch.manual_seed(seed)
    for part in (pipe.unet, pipe.vae, pipe.joint_decoder):
        for parameter in part.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    pipe.save_pretrained(folder)
    return folder


def test_averages_and_scales_what_is_added(tmp_path):
    one, two = (saved(tmp_path / str(seed), seed) for seed in (1, 2))
    release(one, tmp_path / "mean", others=[two])
    release(one, tmp_path / "half", strength=0.5)
    pipes = [TADiSRPipeline.from_pretrained(tmp_path / name) for name in ("1", "2", "mean", "half")]
    for part in ("unet", "vae", "joint_decoder"):
        first, second, mean, _ = (getattr(pipe, part).state_dict() for pipe in pipes)
        for key, value in mean.items():
            torch.testing.assert_close(value, (first[key] + second[key]) / 2, atol=2e-3, rtol=2e-3)  # float16

    lr = tiny.photo(24, 16)
    bicubic = pipes[0].prepare_image(lr)[..., :64, :96] / 2 + 0.5
    with torch.no_grad():
        whole, half = (pipe.restore_tile(lr)[0] - bicubic for pipe in (pipes[0], pipes[3]))
    assert whole.abs().mean() > 1e-3
    torch.testing.assert_close(half, whole / 2, atol=5e-3, rtol=0)

    release(one, tmp_path / "soft", fidelity=0.25)
    soft = TADiSRPipeline.from_pretrained(tmp_path / "soft")
    assert soft.default_fidelity == 0.25 and pipes[0].default_fidelity == 1
    assert not torch.equal(soft.restore_tile(lr)[0], pipes[0].restore_tile(lr)[0])


def test_part_of_the_way(tmp_path):
    one, two = (saved(tmp_path / str(seed), seed) for seed in (1, 2))
    prompted = tiny.lean(mask_prompt=True)
    for name in ("unet", "vae", "joint_decoder"):
        getattr(prompted, name).load_state_dict(
            getattr(TADiSRPipeline.from_pretrained(two), name).state_dict(), strict=False
        )
    prompted.save_pretrained(two)
    release(two, tmp_path / "out", before=one, share=0.25)
    first, second, made = (TADiSRPipeline.from_pretrained(tmp_path / name) for name in ("1", "2", "out"))
    for part in ("unet", "vae", "joint_decoder"):
        old, new, found = (getattr(pipe, part).state_dict() for pipe in (first, second, made))
        for key, value in found.items():
            expected = old[key] + 0.25 * (new[key] - old[key]) if key in old else new[key]
            torch.testing.assert_close(value, expected, atol=2e-3, rtol=2e-3)  # float16
    assert any(key.startswith("prompt_encoder.") for key in found) and made.joint_decoder.config.mask_prompt
    with pytest.raises(ValueError, match="another architecture: there is no way between them"):
        release(one, tmp_path / "back", before=two, share=0.5)
    with pytest.raises(ValueError, match="share is a share from 0 to 1 of the way from --before"):
        release(two, tmp_path / "far", share=0.5)


def test_what_has_which_strength(tmp_path):
    tiny_textdiff.textdiff().save_pretrained(tmp_path / "lines")
    release(tmp_path / "lines", tmp_path / "out", strength=0.5, residual_strength=0.25)
    settings = TextDiffPipeline.from_pretrained(tmp_path / "out").config
    assert (settings.strength, settings.residual_strength) == (0.5, 0.25)
    saved(tmp_path / "photos", 1)
    for pipe, wrong in (("lines", "fidelity"), ("photos", "residual_strength")):
        with pytest.raises(ValueError, match=f"{pipe} has no {wrong}"):
            release(tmp_path / pipe, tmp_path / "out", **{wrong: 0.5})
    release(tmp_path / "out", tmp_path / "again", residual_strength=0.75)
    settings = TextDiffPipeline.from_pretrained(tmp_path / "again").config
    assert (settings.strength, settings.residual_strength) == (0.5, 0.75), "what is not given stays"
    for strength, value in (("strength", 5.0), ("fidelity", -1.0), ("fidelity", float("nan"))):
        with pytest.raises(ValueError, match=f"{strength} is a share from 0 to 1, got {value}"):
            release(tmp_path / "photos", tmp_path / "large", **{strength: value})
    with pytest.raises(ValueError, match="strength must be from 0 to 1, got 1.5"):
        release(tmp_path / "lines", tmp_path / "large", strength=1.5)
    assert not (tmp_path / "large").exists()
    index = tmp_path / "lines" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "DDPMPipeline"}))
    with pytest.raises(ValueError, match="lines holds a DDPMPipeline: only TADiSRPipeline and TextDiffPipeline"):
        release(tmp_path / "lines", tmp_path / "large")
    assert not (tmp_path / "large").exists()
    with pytest.raises(FileNotFoundError, match="holds no whole pipeline"):
        release(tmp_path / "nowhere", tmp_path / "out")


def test_another_architecture_has_no_mean(tmp_path):
    one, two = saved(tmp_path / "1", 1), tmp_path / "2"
    deeper = tiny.lean()
    deeper.vae = type(deeper.vae).from_config({**deeper.vae.config, "layers_per_block": 2})
    deeper.save_pretrained(two)
    with pytest.raises(ValueError, match="2 has a vae of another architecture"):
        release(one, tmp_path / "out", others=[two])
    assert not (tmp_path / "out").exists()
