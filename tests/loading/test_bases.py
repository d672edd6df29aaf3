"""An adapter meets its base, another one, a part of one, or none."""

import json
import shutil

import pytest
import torch
from diffusers import FluxTransformer2DModel
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.loading.bases import base_family, fetch_base, weights_variant
from tadisr.loading.repositories import AdapterIndex, read_adapter_index
from tadisr.models.prompt import TextPrompt

PHOTO = tiny.photo()
WEIGHTS = "diffusion_pytorch_model.safetensors"
SHARDS = [".fp16-00001-of-00002", ".fp16-00002-of-00002"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a base and an adapter on it of every family: `sd`, `sd_adapter`, ..."""
    folder = tmp_path_factory.mktemp("made")
    for name, make in tiny.FAMILIES.items():
        base = make(folder)
        base.save_pretrained(folder / name)
        tiny.on_base(base, base_model=str(folder / name)).save_pretrained(folder / f"{name}_adapter")
    return folder


@pytest.fixture
def adapter(made, tmp_path):
    """A copy of an adapter and of its base, to be spoilt."""
    shutil.copytree(made / "sd_adapter", tmp_path / "adapter")
    shutil.copytree(made / "sd", tmp_path / "base")
    AdapterIndex(str(tmp_path / "base")).save(tmp_path / "adapter")
    return tmp_path / "adapter", tmp_path / "base"


def run(folder, **kwargs):
    return TADiSRPipeline.from_pretrained(folder, **kwargs)(PHOTO, output_type="pt").images[0]


@pytest.mark.parametrize("family", ["sd", "kolors"])
def test_a_cogview4_adapter_on_a_unet(made, family):
    message = (
        "AutoencoderKL, UNet2DConditionModel, and this adapter is for a base with a CogView4Transformer2DModel or "
        "ZImageTransformer2DModel: give"
    )
    with pytest.raises(ValueError, match=message):
        TADiSRPipeline.from_pretrained(made / "cogview4_adapter", base_model=made / family)


def test_a_unets_adapter_on_cogview4(made):
    message = (
        "with AutoencoderKL, CogView4Transformer2DModel, and this adapter is for a base with a UNet2DConditionModel"
    )
    with pytest.raises(ValueError, match=message):
        TADiSRPipeline.from_pretrained(made / "sdxl_adapter", base_model=made / "cogview4")


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("kolors", "sdxl"), ("sdxl", "kolors"), ("sd", "sdxl"), ("sdxl", "sd"), ("cogview4", "zimage"),
        ("zimage", "cogview4"),
    ],
)  # fmt: skip
def test_another_base(made, family, other):
    """Kolors' and SDXL's adapters have the same shapes: the prompt tells them apart."""
    with pytest.raises(ValueError, match="the prompt was made with another base"):
        TADiSRPipeline.from_pretrained(made / f"{family}_adapter", base_model=made / other)


def test_another_width(made, tmp_path):
    base = tiny.sd(tmp_path)
    base.register_modules(unet=tiny.unet(block_out_channels=[8, 24]))
    base.save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match="does not fit this unet"):
        TADiSRPipeline.from_pretrained(made / "sd_adapter", base_model=tmp_path / "wide")


def test_bases_that_are_not_supported(made, tmp_path):
    flux = FluxTransformer2DModel(
        in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    flux.save_pretrained(tmp_path / "flux" / "transformer")
    tiny.vae().save_pretrained(tmp_path / "flux" / "vae")
    supported = "not supported as a base. Supported: Stable Diffusion 1.x and 2.x, SDXL, Kolors .*CogView4"
    with pytest.raises(ValueError, match=f"holds a base with AutoencoderKL, FluxTransformer2DModel, .*{supported}"):
        TADiSRPipeline.from_pretrained(made / "cogview4_adapter", base_model=tmp_path / "flux")
    index = {"_class_name": "StableDiffusion3Pipeline", "vae": ["diffusers", "AutoencoderKL"],
             "transformer": ["diffusers", "SD3Transformer2DModel"], "image_encoder": [None, None]}  # fmt: skip
    (tmp_path / "sd3").mkdir()
    (tmp_path / "sd3" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"StableDiffusion3Pipeline with AutoencoderKL, SD3Transformer.*{supported}"):
        TADiSRPipeline.from_pretrained(made / "cogview4_adapter", base_model=tmp_path / "sd3")
    index |= {"vae": ["diffusers", "AutoencoderKLWan"], "transformer": ["diffusers", "CogView4Transformer2DModel"]}
    (tmp_path / "sd3" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"AutoencoderKLWan, CogView4Transformer2DModel, .*{supported}"):
        base_family(tmp_path / "sd3", "transformer")
    with pytest.raises(ValueError, match=supported):
        TADiSRPipeline.from_pretrained(made / "sd_adapter", base_model="tadisr-tiny")


def test_an_inpainting_base(made, adapter):
    folder, base = adapter
    unet = tiny.unet(in_channels=9)
    unet.save_pretrained(base / "unet")
    with pytest.raises(ValueError, match="reads 9 channels and its VAE has 4, as in inpainting models"):
        TADiSRPipeline.from_pretrained(folder)


@pytest.mark.parametrize("part", ["unet", "transformer"])
def test_schedules_of_the_other_kind(made, tmp_path, part):
    family, other = {"unet": ("sd", "cogview4"), "transformer": ("cogview4", "sd")}[part]
    shutil.copytree(made / family, tmp_path / "base")
    shutil.copytree(made / other / "scheduler", tmp_path / "base" / "scheduler", dirs_exist_ok=True)
    message = {"unet": "no DDPM noise schedule", "transformer": "PNDMScheduler has no flow-matching schedule"}[part]
    with pytest.raises(ValueError, match=message):
        TADiSRPipeline.from_pretrained(made / f"{family}_adapter", base_model=tmp_path / "base")


# ---- bases that are not here


@pytest.mark.parametrize(("family", "part"), [("sd", "unet"), ("cogview4", "transformer")])
@pytest.mark.parametrize("revision", [None, "0123abc"])
def test_a_hub_base_that_is_not_here(made, tmp_path, family, part, revision):
    shutil.copytree(made / f"{family}_adapter", tmp_path / "adapter")
    AdapterIndex("someone/big-base", revision).save(tmp_path / "adapter")
    with pytest.raises(FileNotFoundError) as caught:
        TADiSRPipeline.from_pretrained(tmp_path / "adapter", cache_dir=tmp_path / "cache", local_files_only=True)
    message = str(caught.value)
    assert "\n" not in message
    at = f" --revision {revision}" if revision else ""
    assert message.startswith(
        f"The adapter's base someone/big-base is missing or incomplete: hf download someone/big-base "
        f"model_index.json vae/ {part}/ scheduler/{at} --local-dir FOLDER, and give base_model=FOLDER."
    )
    # What it says works: a local copy, whatever the revision was.
    for sub in ("vae", part, "scheduler"):
        shutil.copytree(made / family / sub, tmp_path / "copy" / sub)
    shutil.copy(made / family / "model_index.json", tmp_path / "copy")
    expected = run(made / f"{family}_adapter")
    assert torch.equal(run(tmp_path / "adapter", base_model=tmp_path / "copy"), expected)
    (tmp_path / "copy" / "model_index.json").unlink()
    assert torch.equal(run(tmp_path / "adapter", base_model=str(tmp_path / "copy")), expected)


def test_a_folder_beside_others_that_is_not_here(tmp_path, monkeypatch):
    """Its name could be a Hub id."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"^No folder runs/tiny here, and no such model could be fetched: [^\n]+$"
    ):
        TADiSRPipeline.from_pretrained("runs/tiny", cache_dir=tmp_path / "cache", local_files_only=True)


def test_a_folder_that_is_not_here(adapter):
    folder, base = adapter
    shutil.rmtree(base)
    message = (
        r"/base is missing or incomplete: get its model_index.json vae/ unet/ scheduler/, and give base_model=FOLDER"
    )
    with pytest.raises(FileNotFoundError, match=message):
        TADiSRPipeline.from_pretrained(folder)
    AdapterIndex("not a/valid id").save(folder)
    with pytest.raises(FileNotFoundError, match="base_model=FOLDER"):
        TADiSRPipeline.from_pretrained(folder)


@pytest.mark.parametrize("missing", ["vae", "unet", "scheduler", f"unet/{WEIGHTS}", "vae/config.json"])
def test_a_base_without_one_of_its_parts(adapter, missing):
    folder, base = adapter
    path = base / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(
        FileNotFoundError, match=f"is missing or incomplete: get .*base_model=FOLDER.*{missing.split('/')[0]}"
    ):
        TADiSRPipeline.from_pretrained(folder)


def test_an_empty_folder_as_base(made, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no diffusers pipeline"):
        TADiSRPipeline.from_pretrained(made / "sd_adapter", base_model=tmp_path)


def test_half_precision_files_are_found(adapter):
    """Kolors' weights, for one, come as fp16 files."""
    folder, base = adapter
    expected = run(folder)
    for part in ("vae", "unet"):
        assert weights_variant(base / part) is None
        (base / part / WEIGHTS).rename(base / part / "diffusion_pytorch_model.fp16.safetensors")
        assert weights_variant(base / part) == "fp16"
    assert torch.equal(run(folder), expected)
    half = {
        name: value / 2 for name, value in load_file(base / "unet/diffusion_pytorch_model.fp16.safetensors").items()
    }
    save_file(half, base / "unet" / WEIGHTS, {"format": "pt"})
    assert weights_variant(base / "unet") is None
    assert not torch.equal(run(folder), expected), "plain files go first"


@pytest.mark.parametrize(
    ("variant", "files", "fetched"),
    [
        (None, ["", ".fp16"], [""]),
        ("fp16", ["", ".fp16"], [".fp16"]),
        (None, [".fp16"], [".fp16"]),
        (None, ["", *SHARDS], [""]),
        ("fp16", ["", *SHARDS], SHARDS),
        (None, ["-00001-of-00002", "-00002-of-00002", ".fp16"], ["-00001-of-00002", "-00002-of-00002"]),
    ],
)
def test_weights_of_one_variant_are_fetched(tmp_path, monkeypatch, variant, files, fetched):
    """From a repository as the Hub would hold it; text encoders stay there."""
    stem = "diffusion_pytorch_model"
    repository = ["model_index.json", "scheduler/scheduler_config.json", "text_encoder/model.safetensors"]
    for part in ("vae", "unet"):
        repository += [f"{part}/config.json", *(f"{part}/{stem}{file}.safetensors" for file in files)]

    def snapshot_download(name, allow_patterns):
        for path in filter_repo_objects(repository, allow_patterns=allow_patterns):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
        return tmp_path

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert fetch_base("someone/base", "unet", variant) == tmp_path
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    weights = {f"{part}/{stem}{file}.safetensors" for part in ("vae", "unet") for file in fetched}
    assert found == weights | {name for name in repository if name.endswith(".json")}


def test_variants_in_shards(tmp_path):
    (tmp_path / "config.json").touch()
    (tmp_path / "other.safetensors").touch()
    (tmp_path / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match="no config.json with diffusion_pytorch_model.safetensors"):
        weights_variant(tmp_path)
    (tmp_path / "diffusion_pytorch_model.fp16-00001-of-00002.safetensors").touch()
    assert weights_variant(tmp_path) == "fp16"
    (tmp_path / "diffusion_pytorch_model-00001-of-00002.safetensors").touch()
    assert weights_variant(tmp_path) is None


# ---- damaged adapters


def test_an_adapter_without_its_prompt(adapter):
    folder, base = adapter
    expected = run(folder)
    prompt = TextPrompt.from_pretrained(folder / "prompt")
    shutil.rmtree(folder / "prompt")
    torch.testing.assert_close(run(folder, prompt=prompt), expected, atol=1e-5, rtol=0)
    AdapterIndex(str(base), prompt="sharp text").save(folder)
    with pytest.raises(FileNotFoundError) as caught:
        TADiSRPipeline.from_pretrained(folder)
    call = f"TextPrompt.from_base('{base}', 'sharp text').save_pretrained('{folder / 'prompt'}')"
    assert f"has no prompt/: make it once with the base's text encoder, by tadisr.models.prompt.{call}" in str(
        caught.value
    )
    exec(f"from tadisr.models.prompt import TextPrompt; {call}")
    assert run(folder).shape == expected.shape
    assert TextPrompt.from_pretrained(folder / "prompt").config.prompt == "sharp text"


def test_a_prompt_is_taken_in_the_pipelines_precision(adapter):
    prompt = TextPrompt.from_pretrained(adapter[0] / "prompt")
    half = TADiSRPipeline.from_pretrained(adapter[0], prompt=prompt, dtype=torch.bfloat16)
    assert half.prompt.dtype == torch.bfloat16 and prompt.dtype == torch.float32


def test_incomplete_and_damaged_adapters(adapter):
    folder, base = adapter
    shutil.rmtree(folder / "unet_lora")
    with pytest.raises(FileNotFoundError, match="incomplete: neither unet_lora nor transformer_lora"):
        TADiSRPipeline.from_pretrained(folder)
    for text in ('{"base_model": ', "{}", '{"base_model": "a", "colour": 1}'):
        (folder / "tadisr_adapter.json").write_text(text)
        with pytest.raises(ValueError, match="tadisr_adapter.json is damaged or of another version of tadisr"):
            read_adapter_index(folder)
    (base / "model_index.json").write_text('{"vae": ')
    with pytest.raises(ValueError, match="model_index.json is not JSON"):
        base_family(base, "unet")
