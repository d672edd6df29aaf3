"""Adapters on a base's models: written, read, and refused whole where anything does not fit."""

import copy
import json

import pytest
import torch
from diffusers import CogView4Transformer2DModel
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers import tiny
from tadisr.loading.adapters import load_adapter, save_adapter, write_adapter
from tadisr.models.lora import ADAPTER, add_lora

LORA = "unet_lora/pytorch_lora_weights.safetensors"


def bare():
    torch.manual_seed(0)
    return {"vae": tiny.vae(), "unet": tiny.unet()}


def trained():
    models = bare()
    add_lora(models["unet"], models["vae"])
    for model in models.values():
        tiny.shake(model, "lora_B")
    return models


def state(models):
    return {
        f"{name}.{key}": value.clone() for name, model in models.items() for key, value in model.state_dict().items()
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture
def folder(tmp_path):
    """A saved adapter, whose U-Net has `conv_in` replaced whole and a scaling of 2."""
    models = trained()
    config = LoraConfig(r=4, lora_alpha=8, target_modules=models["unet"].peft_config[ADAPTER].target_modules)
    save_adapter(tmp_path, models)
    layers = {"conv_in.weight": torch.full((8, 4, 3, 3), 0.5), "conv_in.bias": torch.ones(8)}
    write_adapter(tmp_path, "unet", load_file(tmp_path / LORA), config, layers)
    return tmp_path


def rewrite(path, change):
    """The file with `change(tensors, metadata)` applied."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


# ---- round trips


def test_round_trip(tmp_path):
    models, again = trained(), bare()
    save_adapter(tmp_path, models)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        LORA, "vae_lora/pytorch_lora_weights.safetensors",
    ]  # fmt: skip
    load_adapter(tmp_path, again)
    assert same(state(models), state(again))


def test_what_diffusers_wrote_is_read_and_the_other_way_round(tmp_path):
    models, again = trained(), bare()
    for name, model in models.items():
        model.save_lora_adapter(tmp_path / f"{name}_lora", adapter_name=ADAPTER)
    load_adapter(tmp_path, again)
    assert same(state(models), state(again))
    save_adapter(tmp_path / "ours", models)
    unet = bare()["unet"]
    unet.load_lora_adapter(
        tmp_path / "ours" / "unet_lora",
        weight_name="pytorch_lora_weights.safetensors",
        prefix=None,
        adapter_name=ADAPTER,
    )
    assert same(state({"unet": models["unet"]}), state({"unet": unet}))


def test_replaced_layers_and_the_scaling_come_back(folder, tmp_path):
    models = bare()
    load_adapter(folder, models)
    unet = models["unet"]
    assert (unet.conv_in.weight == 0.5).all() and (unet.conv_in.bias == 1).all()
    assert unet.down_blocks[0].resnets[0].conv1.scaling == {ADAPTER: 2.0}
    assert models["vae"].decoder.conv_in.scaling == {ADAPTER: 1.0}
    save_adapter(tmp_path / "again", copy.deepcopy(models))
    again = bare()
    load_adapter(tmp_path / "again", again)
    assert same(state(models), state(again))
    assert again["unet"].down_blocks[0].resnets[0].conv1.scaling == {ADAPTER: 2.0}


def test_the_scaling_takes_effect(folder):
    """What a layer adds is alpha / r B A x, to 2 instead of the 1 of a trained one."""
    models, x = bare(), torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(1))
    base = models["unet"].down_blocks[0].resnets[0].conv1
    load_adapter(folder, models)
    layer, tensors = models["unet"].down_blocks[0].resnets[0].conv1, load_file(folder / LORA)
    a, b = (tensors[f"down_blocks.0.resnets.0.conv1.lora_{side}.weight"] for side in "AB")
    with torch.no_grad():
        added = torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, a, padding=1), b)
        torch.testing.assert_close(layer(x), base(x) + 2 * added)


def test_a_transformer(tmp_path):
    def model():
        torch.manual_seed(0)
        return CogView4Transformer2DModel(
            in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, text_embed_dim=16,
            time_embed_dim=8, condition_dim=4,
        )  # fmt: skip

    one, other = model(), model()
    one.add_adapter(LoraConfig(r=2, lora_alpha=8, target_modules=["attn1.to_q", "proj_out"]), adapter_name=ADAPTER)
    tiny.shake(one, "lora_B")
    save_adapter(tmp_path, {"transformer": one})
    load_adapter(tmp_path, {"transformer": other})
    assert same(state({"": one}), state({"": other})) and other.proj_out.scaling == {ADAPTER: 4.0}


# ---- what is refused, and changes nothing


def refused(folder, error, match, models=None):
    models = models or bare()
    before = state(models)
    with pytest.raises(error, match=match) as caught:
        load_adapter(folder, models)
    assert same(state(models), before) and not any(hasattr(model, "peft_config") for model in models.values())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block_out_channels": [16, 16]}, r"conv_out.lora_A.weight is \(4, 8, 3, 3\), expected \(4, 16, 3, 3\)"),
        ({"cross_attention_dim": 24}, r"attn2.to_k.lora_A.weight is \(4, 16\), expected \(4, 24\)"),
        ({"in_channels": 5}, r"conv_in.weight is \(8, 4, 3, 3\), expected \(8, 5, 3, 3\)"),
        ({"use_linear_projection": True}, r"proj_in.lora_A.weight is \(4, 8, 1, 1\), expected \(4, 8\)"),
        ({"down_block_types": ["DownBlock2D", "DownBlock2D"]},
         "it has no linear or convolutional layer down_blocks.0.attentions.0.proj_in; .*; and [0-9]+ more"),
    ],
)  # fmt: skip
def test_another_base(folder, options, said):
    line = refused(folder, ValueError, said, {"vae": tiny.vae(), "unet": tiny.unet(**options)})
    assert line.startswith(f"The adapter in {folder} does not fit this unet: ") and len(line) < 600


def test_the_last_model_is_checked_before_the_first_is_changed(folder):
    refused(folder, ValueError, "does not fit this vae", {"unet": tiny.unet(), "vae": tiny.vae(levels=2)})


def changed(metadata, **values):
    """The LoRA's metadata with other values."""
    key = "lora_adapter_metadata"
    return {key: json.dumps(json.loads(metadata[key]) | values)}


def without(key):
    return lambda tensors, _: tensors.pop(key)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (LORA, without("conv_out.lora_A.weight"), r"conv_out.lora_A.weight is missing, expected \(4, 8, 3, 3\)"),
        (LORA, lambda t, _: t.update({"conv_out.lora_magnitude_vector": torch.ones(4)}),
         r"conv_out.lora_magnitude_vector is \(4,\), expected none"),
        (LORA, lambda t, _: t.update({"conv_out.alpha": torch.ones(1)}), "no linear or .* layer conv_out.alpha"),
        (LORA, lambda t, _: t.clear(), "no LoRA weights"),
        (LORA, lambda _, m: m.update(changed(m, r=8)),
         r"lora_A.weight is \(4, .*, expected \(8, "),
        (LORA, lambda _, m: m.update(lora_adapter_metadata=json.dumps({"later": 8})),
         "metadata of .* name layers otherwise"),
        (LORA, lambda _, m: m.update(changed(m, later=8)), "metadata of .* set 'later', which is not known here"),
        (LORA, lambda _, m: m.pop("lora_adapter_metadata"), "metadata of .* are missing"),
        (LORA, lambda _, m: m.update(replaced_layers="["), "metadata of .* is not JSON"),
        ("unet_layers.safetensors", without("conv_in.bias"),
         r"does not hold the layers that .* names: conv_in.bias; conv_in.weight"),
    ],
)  # fmt: skip
def test_a_changed_file(folder, name, change, said):
    rewrite(folder / name, change)
    refused(folder, ValueError, said)


@pytest.mark.parametrize("name", [LORA, "unet_layers.safetensors", "vae_lora/pytorch_lora_weights.safetensors"])
def test_missing_and_truncated_files(folder, name):
    data = (folder / name).read_bytes()
    for end in (len(data) - 1, len(data) // 2, 4, 0):
        (folder / name).write_bytes(data[:end])
        refused(folder, ValueError, f"{name} is damaged or incomplete: ")
    (folder / name).unlink()
    refused(folder, FileNotFoundError, f"The adapter is incomplete: no .*{name}")


def test_one_adapter_at_a_time(folder):
    models = bare()
    load_adapter(folder, models)
    before = state(models)
    with pytest.raises(ValueError, match="The vae already carries a TADiSR adapter"):
        load_adapter(folder, models)
    assert same(state(models), before)


def test_nothing_to_save(tmp_path):
    models = trained() | {"unet": tiny.unet()}
    with pytest.raises(ValueError, match="The unet carries no TADiSR adapter"):
        save_adapter(tmp_path, models)
    assert not list(tmp_path.iterdir())
