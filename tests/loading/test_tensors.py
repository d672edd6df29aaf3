"""Every load names a tensor that is missing, unknown, of another shape or kind, or not finite."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import tiny, tiny_textdiff
from helpers.segmenters import sam
from tadisr import TADiSRPipeline
from tadisr.io.model_files import not_finite
from tadisr.models.prompt import TextPrompt
from tadisr.models.textdiff.recognizer import load_crnn
from tadisr.models.weights import check_files, check_values, load_network, weight_files
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"
NAN, INF = float("nan"), float("inf")


def first_floats(tensors):
    return next(name for name in sorted(tensors) if tensors[name].is_floating_point())


def poison(value):
    def change(tensors, name):
        tensors[name].view(-1)[-1] = value

    return change


SPOILT = {
    "missing": (lambda tensors, name: tensors.pop(name), "{name} is missing"),
    "renamed": (lambda tensors, name: tensors.update({f"{name}_x": tensors.pop(name)}), "{name} is missing"),
    "unknown": (lambda tensors, name: tensors.update(extra=torch.ones(1)), "extra is unknown"),
    "shape": (lambda tensors, name: tensors.update({name: tensors[name][None].clone()}), "{name} is (1, "),
    "int8": (lambda tensors, name: tensors.update({name: tensors[name].to(torch.int8)}), "{name} holds integers"),
    "bool": (lambda tensors, name: tensors.update({name: tensors[name] > 0}), "{name} holds truth values"),
    "complex": (lambda tensors, name: tensors.update({name: tensors[name].cfloat()}), "{name} holds complex numbers"),
    "nan": (poison(NAN), "{name} is not finite"),
    "infinite": (poison(-INF), "{name} is not finite"),
}


def spoil(file: Path, kind: str) -> str:
    """Spoil one tensor of a file; the words that the message must have."""
    tensors = load_file(file)
    name = first_floats(tensors)
    change, said = SPOILT[kind]
    change(tensors, name)
    save_file(tensors, file, {"format": "pt"})
    return said.format(name=name)


def refused(load, said):
    with pytest.raises(ValueError) as caught:
        load()
    assert said in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 700
    return str(caught.value)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Toy models of every kind, saved."""
    folder = tmp_path_factory.mktemp("models")
    tiny.lean().save_pretrained(folder / "lean")
    tiny_textdiff.textdiff().save_pretrained(folder / "textdiff")
    base = tiny.cogview4(folder)
    base.save_pretrained(folder / "base")
    tiny.on_base(base, base_model=str(folder / "base")).save_pretrained(folder / "adapter")
    tiny.on_base(base, lora=False).save_pretrained(folder / "cogview4")
    return folder


def copied(models, tmp_path, *names):
    for name in names:
        shutil.copytree(models / name, tmp_path / name)
    return [tmp_path / name for name in names]


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("part", ["vae", "unet", "prompt", "joint_decoder"])
def test_a_whole_pipeline(models, tmp_path, part, kind):
    [folder] = copied(models, tmp_path, "lean")
    said = spoil(folder / part / WEIGHTS, kind)
    message = refused(lambda: TADiSRPipeline.from_pretrained(folder), said)
    assert str(folder / part) in message and "Fetch or write the model anew." in message


@pytest.mark.parametrize("kind", ["missing", "int8", "nan"])
def test_a_whole_pipeline_with_a_transformer(models, tmp_path, kind):
    [folder] = copied(models, tmp_path, "cogview4")
    said = spoil(folder / "transformer" / WEIGHTS, kind)
    refused(lambda: TADiSRPipeline.from_pretrained(folder), said)


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("part", ["enhancement", "prior", "residual"])
def test_textdiff(models, tmp_path, part, kind):
    [folder] = copied(models, tmp_path, "textdiff")
    said = spoil(folder / part / WEIGHTS, kind)
    refused(lambda: TextDiffPipeline.from_pretrained(folder), said)


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("part", ["vae", "transformer"])
def test_an_adapters_base(models, tmp_path, part, kind):
    adapter, base = copied(models, tmp_path, "adapter", "base")
    said = spoil(base / part / WEIGHTS, kind)
    refused(lambda: TADiSRPipeline.from_pretrained(adapter, base_model=base), said)


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("part", ["prompt", "joint_decoder"])
def test_an_adapters_own_parts(models, tmp_path, part, kind):
    adapter, base = copied(models, tmp_path, "adapter", "base")
    said = spoil(adapter / part / WEIGHTS, kind)
    refused(lambda: TADiSRPipeline.from_pretrained(adapter, base_model=base), said)


def test_a_batch_normalisations_counter_is_an_integer(models, tmp_path):
    [folder] = copied(models, tmp_path, "textdiff")
    tensors = load_file(folder / "prior" / WEIGHTS)
    tensors["cnn.batchnorm2.num_batches_tracked"] = torch.tensor(1.0)
    save_file(tensors, folder / "prior" / WEIGHTS)
    refused(lambda: TextDiffPipeline.from_pretrained(folder), "num_batches_tracked holds floats, expected integers")


@pytest.mark.parametrize("kind", SPOILT)
def test_a_recogniser(models, tmp_path, kind):
    [folder] = copied(models, tmp_path, "textdiff")
    said = spoil(folder / "prior" / WEIGHTS, kind)
    refused(lambda: load_crnn(folder / "prior"), said)


def test_a_segmenters_base(tmp_path):
    """transformers makes a tensor up that is missing."""
    from tadisr.data_synthesis.judging.sam_ts import SamTextSegmenter, SamTSConfig

    sam().save_pretrained(tmp_path / "sam")
    SamTextSegmenter.build({"base_model": str(tmp_path / "sam")})
    file, kept = tmp_path / "sam" / "model.safetensors", load_file(tmp_path / "sam" / "model.safetensors")
    name = "vision_encoder.layers.0.attn.qkv.bias"
    save_file({key: value for key, value in kept.items() if key != name}, file, {"format": "pt"})
    config = {"base_model": str(tmp_path / "sam")}
    refused(lambda: SamTextSegmenter.build(config), f"{name} is missing")
    save_file(kept | {name: torch.full_like(kept[name], NAN)}, file, {"format": "pt"})
    refused(lambda: SamTextSegmenter.build(config), f"{name} is not finite")
    assert SamTSConfig(**config).base_model == config["base_model"]


@pytest.mark.parametrize("family", ["sd", "kolors", "cogview4", "zimage"])
def test_a_text_encoder(tmp_path, family):
    """Of which transformers makes a missing tensor up, and the prompt would be made with it."""
    tiny.FAMILIES[family](tmp_path).save_pretrained(tmp_path / "base")
    TextPrompt.from_base(tmp_path / "base")
    file = tmp_path / "base" / "text_encoder" / "model.safetensors"
    kept = load_file(file)
    name = sorted(kept)[0]
    save_file({key: value for key, value in kept.items() if key != name}, file, {"format": "pt"})
    refused(lambda: TextPrompt.from_base(tmp_path / "base"), f"{name} is missing")
    save_file(kept | {name: torch.full_like(kept[name], NAN)}, file, {"format": "pt"})
    refused(lambda: TextPrompt.from_base(tmp_path / "base"), f"{name} is not finite")


# ---- files of other forms


@pytest.fixture
def network(tmp_path):
    model = tiny.vae(levels=1, up_block_types=["UpDecoderBlock2D"])
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    return tmp_path


def load(folder, **options):
    return load_network(type(tiny.vae(1)), folder, **options)


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_shards(network):
    folder = network / "shards"
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    files = weight_files(folder)
    assert len(files) > 1 and same(load(folder), load(network / "whole"))

    tensors = load_file(files[0])
    name = first_floats(tensors)
    value = tensors.pop(name)
    save_file(tensors, files[0], {"format": "pt"})
    refused(lambda: load(folder), f"{name} is missing")
    save_file(tensors | {name: value, "extra": torch.ones(1)}, files[0], {"format": "pt"})
    refused(lambda: load(folder), "extra is in no index")
    save_file(tensors | {name: value * NAN}, files[0], {"format": "pt"})
    refused(lambda: load(folder), f"{name} is not finite")
    save_file(tensors | {name: value}, files[0], {"format": "pt"})
    save_file(load_file(files[1]) | {name: value}, files[1], {"format": "pt"})
    refused(lambda: load(folder), f"{name} is in two files")

    files[1].unlink()
    with pytest.raises(FileNotFoundError, match=files[1].name):
        load(folder)
    for names in (
        {},
        [],
        {name: "../whole/x.safetensors"},
        {name: "/etc/passwd"},
        {name: "pytorch_model.bin"},
        {name: 3},
    ):
        index.write_text(json.dumps({"metadata": {"total_size": 10**12}, "weight_map": names}))
        refused(lambda: load(folder), "its weight_map does not name safetensors files beside it")


def test_pickled_weights_are_never_read(network):
    for name in ("whole", "shards"):
        for file in network.joinpath(name).glob("*safetensors*"):
            file.unlink()
    torch.save(tiny.vae(1).state_dict(), network / "whole" / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="no diffusion_pytorch_model.safetensors .*such as .bin, are not read"):
        load(network / "whole")


def test_half_precision_and_variants(network):
    folder = network / "whole"
    tensors = load_file(folder / WEIGHTS)
    half = {name: value.half() for name, value in tensors.items()}
    save_file(half, folder / WEIGHTS, {"format": "pt"})
    model = load(folder)
    assert model.dtype == torch.float32 and torch.equal(
        model.encoder.conv_in.weight, half["encoder.conv_in.weight"].float()
    )
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert same(load(folder, variant="fp16"), model)
    half["encoder.conv_in.bias"][0] = INF
    save_file(half, folder / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    refused(lambda: load(folder, variant="fp16"), "encoder.conv_in.bias is not finite")


def test_values_that_the_precision_does_not_hold(network):
    folder = network / "whole"
    tensors = load_file(folder / WEIGHTS)
    tensors["encoder.conv_in.bias"][0] = 1e6
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    said = f"float16 does not hold the weights in {folder}, such as encoder.conv_in.bias: take bfloat16 or float32."
    assert refused(lambda: load(folder, dtype=torch.float16), "float16") == said
    assert load(folder, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_names_of_old_attention_layers_are_known(network):
    """Stable Diffusion 1.5's VAE has them."""
    folder = network / "whole"
    expected, old = load(folder), {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in load_file(folder / WEIGHTS).items():
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.")
        tensors[name] = value
    assert any(".query." in name for name in tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    assert same(load(folder), expected)
    del tensors[next(name for name in tensors if name.endswith(".query.bias"))]
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    refused(lambda: load(folder), "to_q.bias is missing")


def test_quantised_files_are_refused_and_weights_are_quantised_when_loading(network):
    folder = network / "whole"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    refused(lambda: load(folder), "holds quantised weights: take the plain ones")


def test_many_mistakes_are_named_shortly(network):
    save_file({"extra": torch.ones(1)}, network / "whole" / WEIGHTS)
    message = refused(lambda: load(network / "whole"), "is missing; ")
    assert message.count(" is missing") == 3 and " more. Fetch or write the model anew." in message


def test_what_is_not_finite():
    tensors = {
        "fine": torch.ones(3), "empty": torch.ones(0), "half": torch.tensor([1, INF]).half(),
        "bfloat16": torch.tensor([NAN, 1]).bfloat16(), "float8": torch.tensor([1.0, NAN]).to(torch.float8_e4m3fn),
        "integers": torch.tensor([1]), "transposed": torch.tensor([[1.0, -INF], [2.0, 3.0]]).T,
        "meta": torch.ones(2, device="meta"), "largest": torch.tensor(torch.finfo(torch.float32).max),
    }  # fmt: skip
    assert not_finite(tensors) == ["meta", "half", "bfloat16", "float8", "transposed"]


def test_a_loaded_network_without_values(network):
    model = load(network / "whole")
    model.encoder.conv_in.bias = torch.nn.Parameter(torch.empty(8, device="meta"))
    with pytest.raises(ValueError, match="encoder.conv_in.bias"):
        check_values(model, network / "whole")
    check_files(type(model), network / "whole")


def test_finite_weights_and_values_that_overflow(models):
    """Then the message is about the values, and blames neither the files nor float32."""
    pipe = TADiSRPipeline.from_pretrained(models / "lean")
    pipe.vae.decoder.conv_out.bias.data.fill_(3e38)
    pipe.vae.decoder.conv_out.weight.data.fill_(3e38)
    with pytest.raises(FloatingPointError, match="gives values that are not finite, in float32 too"):
        pipe(np.full((8, 8, 3), 200, np.uint8))
