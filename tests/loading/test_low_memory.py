"""Little memory: smaller tiles after an error, weights offloaded, fused, quantised and compiled."""

import pytest
import torch
from accelerate import cpu_offload
from diffusers import PipelineQuantizationConfig, QuantoConfig, TorchAoConfig
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch._dynamo.testing import CompileCounter

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.loading.memory import fast_dtype, free_memory, fuse_adapter, is_out_of_memory, quantization_by_model
from tadisr.models.lora import ADAPTER
from tadisr.models.tensors import upsample

PHOTO, SMALL = tiny.photo(100, 75), tiny.photo()  # 400 x 300 and 96 x 68 pixels of output


def run(pipe, image=PHOTO, **kwargs):
    images, masks = pipe(image, output_type="pt", return_dict=False, **{"overlap": 16} | kwargs)
    return images[0], masks[0]


class Cramped(torch.nn.Module):
    """A layer of a device that has no memory for more than so many values."""

    def __init__(self, layer, limit, error=None):
        super().__init__()
        self.layer, self.limit, self.seen = layer, limit, []
        self.error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.") if error is None else error

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        if x[:, 0].numel() > self.limit:
            raise self.error
        return self.layer(x)


def cramped(side, batch=1, error=None):
    """A pipeline whose last convolution takes no more than `batch` squares of `side` output pixels; and that layer."""
    pipe = tiny.lean()
    layer = Cramped(pipe.vae.decoder.conv_out, batch * (side // 4) ** 2, error)
    pipe.vae.decoder.conv_out = layer
    return pipe, layer


# ---- after an out-of-memory error


def test_auto_tiles_shrink_until_they_fit(caplog):
    pipe, layer = cramped(128)
    found = run(pipe)
    assert [record.getMessage() for record in caplog.records] == [
        "Not enough memory for tiles of 400 pixels: from now on 192.",
        "Not enough memory for tiles of 192 pixels: from now on 128.",
    ]
    pipe.vae.decoder.conv_out = layer.layer
    for one, other in zip(found, run(pipe, tile=128, tile_batch=1), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB, other allocations: 2 GB)."),
        MemoryError(),
    ],
    ids=["cuda", "linux", "windows", "mps", "python"],
)
def test_errors_about_memory(error):
    assert is_out_of_memory(error)


def test_what_fits_is_remembered(caplog):
    pipe, layer = cramped(192)
    run(pipe)
    layer.seen.clear(), caplog.clear()
    run(pipe)
    assert set(layer.seen) == {(1, 8, 48, 48)} and not caplog.records
    run(pipe, tile=64)
    assert layer.seen[-1][2:] == (16, 16), "an explicit tile is taken as it is"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "for 1 x 128 x 128 pixels: try bfloat16, offloading to the CPU, or a smaller image."),
        ({"tile": 320}, 'for 1 x 320 x 320 pixels: try tile=128 or tile="auto".'),
        ({"tile": 320, "tile_batch": 2}, "for 2 x 320 x 320 pixels: try tile_batch=1."),
        ({"tile": None}, 'for 1 x 400 x 400 pixels: try tile=192 or tile="auto".'),
    ],
)
def test_what_was_asked_for_is_not_changed(caplog, arguments, message):
    pipe, layer = cramped(64)
    with pytest.raises(MemoryError) as error:
        run(pipe, **arguments)
    assert str(error.value) == f"Not enough memory {message}"
    assert len(caplog.records) == len(layer.seen) - 1


def test_automatic_batches_shrink_before_tiles_are_refused(caplog):
    pipe, layer = cramped(128, batch=3)
    found = run(pipe, tile=128)
    [record] = caplog.records
    assert record.getMessage() == "Not enough memory for 16 tiles of 128 pixels at a time: now one."
    assert {shape[0] for shape in layer.seen[1:]} == {1}
    for one, other in zip(found, run(pipe, tile=128, tile_batch=3), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_other_errors_are_not_about_memory():
    error = RuntimeError("Expected all tensors to be on the same device")
    pipe, layer = cramped(128, error=error)
    with pytest.raises(RuntimeError, match="same device"):
        run(pipe)
    assert len(layer.seen) == 1
    assert not is_out_of_memory(error) and not is_out_of_memory(ValueError("out of memory."))


def test_progress_starts_again_with_the_tiles():
    pipe, _ = cramped(192)
    grids = []
    run(pipe, tile_progress=lambda grid: grids.append(len(grid)) or grid)
    assert grids == [3 * 2], "the first attempt was the whole image, which needs no progress"


def test_the_allocators_own_error_is_about_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)


# ---- offloading


def offload_sequentially(pipe):
    """As `enable_sequential_cpu_offload` does, with the CPU as the accelerator (which it would call "cpu:0").

    Weights are on "meta" wherever no hook has brought them back.
    """
    for model in (pipe.vae, pipe.backbone, pipe.prompt, pipe.joint_decoder):
        cpu_offload(model, torch.device("cpu"), offload_buffers=len(model._parameters) > 0)
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("family", ["sdxl", "kolors", "cogview4", "zimage"])
@pytest.mark.parametrize(
    ("sequentially", "dtype"), [(False, torch.float32), (True, torch.float32), (True, torch.bfloat16)]
)
def test_offloading(tmp_path, family, sequentially, dtype):
    pipe = tiny.on_base(tiny.FAMILIES[family](tmp_path)).to(dtype)
    photo = tiny.photo(17, 33)
    expected = run(pipe, photo, tile=64)
    offload_sequentially(pipe) if sequentially else pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):  # again, now that everything was brought and sent away once
        assert all(torch.equal(one, other) for one, other in zip(run(pipe, photo, tile=64), expected, strict=True))


def test_group_offload(tmp_path):
    pipe = tiny.on_base(tiny.sdxl(tmp_path))
    expected = run(pipe)
    with pytest.raises(ValueError, match='offload_type must be "leaf_level" here, not .block_level'):
        pipe.enable_group_offload("cpu", offload_type="block_level")
    pipe.enable_group_offload("cpu")  # with the CPU as the accelerator
    assert all(torch.equal(one, other) for one, other in zip(run(pipe), expected, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_sequential_offload_on_a_gpu(tmp_path):
    pipe = tiny.on_base(tiny.sdxl(tmp_path))
    expected = run(pipe)
    pipe.enable_sequential_cpu_offload()
    for one, other in zip(run(pipe), expected, strict=True):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0)


# ---- LoRA in the weights


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """An adapter's folder on an SDXL-class base, on CogView4's and on Z-Image's."""
    folder = tmp_path_factory.mktemp("adapters")
    for family in ("sdxl", "cogview4", "zimage"):
        base = tiny.FAMILIES[family](folder)
        base.save_pretrained(folder / f"{family}_base")
        tiny.on_base(base, base_model=str(folder / f"{family}_base")).save_pretrained(folder / family)
    return folder


def weights_of(folder):
    return {path.relative_to(folder): load_file(path) for path in sorted(folder.rglob("*.safetensors"))}


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("sdxl", torch.float32), ("sdxl", torch.bfloat16), ("cogview4", torch.float32), ("cogview4", torch.float16),
        ("zimage", torch.float32),
    ],
)  # fmt: skip
def test_fused_pipelines_restore_the_same_and_save_the_same_adapter(adapters, tmp_path, family, dtype):
    plain = TADiSRPipeline.from_pretrained(adapters / family, dtype=dtype)
    fused = TADiSRPipeline.from_pretrained(adapters / family, dtype=dtype, fuse_lora=True)
    calls = []
    for model in (fused.vae, fused.backbone):
        for name, module in model.named_modules():
            if "lora_" in name and not list(module.children()):
                module.register_forward_pre_hook(lambda *_: calls.append(1))
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.003}[dtype]
    expected = run(plain, SMALL)
    for one, other in zip(run(fused, SMALL), expected, strict=True):
        assert (one - other).abs().mean() < tolerance
    assert not calls, "no adapter is computed any more"
    before = weights_of(adapters / family)
    plain.save_pretrained(tmp_path / "plain")
    fused.fuse_lora().save_pretrained(tmp_path / "fused")  # fused twice is fused once
    for one, other in ((weights_of(tmp_path / name) for name in ("plain", "fused")),):
        assert one.keys() == other.keys() == before.keys()
        assert all(torch.equal(x, other[file][name]) for file, tensors in one.items() for name, x in tensors.items())
    again = TADiSRPipeline.from_pretrained(tmp_path / "fused", dtype=dtype)
    assert all(torch.equal(one, other) for one, other in zip(run(again, SMALL), expected, strict=True))


@pytest.mark.parametrize(("dtype", "small"), [(torch.bfloat16, 1e-3), (torch.float16, 1e-4)])
def test_a_small_adapter_is_not_rounded_away(dtype, small):
    """Rounded to the nearest, a third or more of it would be."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(512, 512, bias=False)).to(dtype)
    model = get_peft_model(layer, LoraConfig(r=4, target_modules=["0"], init_lora_weights=False), ADAPTER)
    [lora] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    before = lora.get_base_layer().weight.detach().float()
    with torch.no_grad():
        lora.lora_B[ADAPTER].weight *= small * before.norm() / lora.get_delta_weight(ADAPTER).float().norm()
    delta = lora.get_delta_weight(ADAPTER).float()
    fuse_adapter(model, ADAPTER, torch.Generator().manual_seed(1))
    weight = lora.get_base_layer().weight
    assert weight.dtype == dtype

    def kept(after):
        return float(((after.float() - before) * delta).sum() / delta.square().sum())

    assert kept((before + delta).to(dtype)) < 0.7
    assert kept(weight) == pytest.approx(1, abs=0.02)
    assert (weight.float() - before - delta).abs().max() <= torch.finfo(dtype).eps * before.abs().max()


def test_fusing_comes_before_sequential_offload(adapters):
    pipe = TADiSRPipeline.from_pretrained(adapters / "sdxl")
    offload_sequentially(pipe)
    with pytest.raises(ValueError, match=r"offloaded one by one: fuse_lora\(\) before enabling that"):
        pipe.fuse_lora()
    fused = TADiSRPipeline.from_pretrained(adapters / "sdxl", fuse_lora=True)
    expected = run(fused, SMALL)
    offload_sequentially(fused)
    assert all(torch.equal(one, other) for one, other in zip(run(fused, SMALL), expected, strict=True))


def test_a_pipeline_without_adapters_has_nothing_to_fuse():
    pipe = tiny.lean()
    assert all(torch.equal(one, other) for one, other in zip(run(pipe), run(pipe.fuse_lora()), strict=True))


# ---- quantised bases


@pytest.mark.parametrize("family", ["sdxl", "cogview4", "zimage"])
@pytest.mark.parametrize("whole", [False, True])
def test_eight_bits(adapters, tmp_path, family, whole):
    """Int8 weights, with the adapter beside them in bfloat16, which is saved as it was."""
    quantization = pytest.importorskip("torchao.quantization")
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    folder = adapters / family
    if whole:
        folder = tmp_path / "whole"
        tiny.on_base(tiny.FAMILIES[family](tmp_path), lora=False).save_pretrained(folder)
    plain = TADiSRPipeline.from_pretrained(folder, dtype=torch.bfloat16)
    part = "unet" if plain.transformer is None else "transformer"
    expected = run(plain, SMALL)
    for given in (config, PipelineQuantizationConfig(quant_mapping={part: config})):
        pipe = TADiSRPipeline.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=given)
        linear = [m.weight for m in pipe.backbone.modules() if type(m) is torch.nn.Linear and m.weight.shape[0] > 4]
        assert any(type(weight).__name__ == "Int8Tensor" for weight in linear)
        assert all(type(weight) is torch.nn.Parameter for weight in pipe.vae.parameters())
        for one, other in zip(run(pipe.fuse_lora(), SMALL), expected, strict=True):
            assert 0 < (one - other).abs().mean() < 0.02
    if not whole:
        pipe.save_pretrained(tmp_path / "again")
        again = TADiSRPipeline.from_pretrained(tmp_path / "again", dtype=torch.bfloat16)
        assert all(torch.equal(one, other) for one, other in zip(run(again, SMALL), expected, strict=True))


def test_which_model_a_configuration_is_for():
    layout = QuantoConfig("int8")
    assert quantization_by_model(None, "unet") == {}
    assert quantization_by_model(layout, "unet") == {"unet": layout}
    both = PipelineQuantizationConfig(quant_mapping={"vae": layout, "text_encoder": layout, "transformer": layout})
    assert quantization_by_model(both, "transformer") == {"vae": layout, "transformer": layout}


# ---- torch.compile


def test_compiled_modules_give_the_same():
    """Dynamo's graphs, without the code generator, which takes minutes."""
    pipe, photo = tiny.lean(), tiny.photo(40, 16)
    expected = run(pipe, photo, tile=64, tile_batch=1)
    torch._dynamo.reset()
    graphs, backbone = CompileCounter(), pipe.backbone
    assert pipe.compile(backend=graphs) is pipe
    assert pipe.backbone is backbone, "in place: what a backbone is, is told by its class"
    for _ in range(2):
        for one, other in zip(run(pipe, photo, tile=64, tile_batch=1), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
        assert graphs.frame_count == 2, "one for the backbone, one for the decoders, for all tiles"
    torch._dynamo.reset()


def test_half_precision_where_there_are_matrix_units_for_it(monkeypatch):
    for found, wanted in (
        ({"amx_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False}, torch.float32),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert fast_dtype("cpu") is wanted and fast_dtype("mps") is torch.float32
        for emulated in (True, False):
            asked = lambda including_emulation, emulated=emulated: including_emulation or not emulated  # noqa: E731
            monkeypatch.setattr(torch.cuda, "is_bf16_supported", asked)
            assert fast_dtype("cuda:0") is (torch.float32 if emulated else torch.bfloat16)
    for name, capability, wanted in (
        ("Tesla T4", (7, 5), torch.float16),
        ("Tesla V100-SXM2-16GB", (7, 0), torch.float16),
        ("NVIDIA GeForce GTX 1660", (7, 5), torch.float32),
        ("Tesla P100-PCIE-16GB", (6, 0), torch.float32),
    ):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, found=name: found)
        assert fast_dtype("cuda", holds_float16=True) is wanted and fast_dtype("cuda") is torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # before PyTorch 2.10
    assert fast_dtype(torch.device("cpu")) is torch.float32


def test_values_that_the_precision_does_not_hold():
    pipe = tiny.lean()
    torch.nn.init.constant_(pipe.vae.decoder.conv_out.bias, 1e5)
    assert run(pipe)[0].max() == 1
    with pytest.raises(FloatingPointError, match=r"torch.float16 does not hold this model's values: take bfloat16 or"):
        run(pipe.to(torch.float16))


def test_half_precision_does_not_round_the_input():
    """What is added may be coarse; what it is added to may not."""
    pipe = tiny.lean().to(torch.bfloat16)
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.weight)
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.bias)
    lr = tiny.photo(24, 16)
    torch.testing.assert_close(pipe.restore_tile(lr)[0], upsample(lr, 4).clamp(0, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_what_the_allocator_keeps_counts_as_free(monkeypatch, kind):
    """Else a second image of the same size would get smaller tiles than the first."""
    sides = []
    for free, reserved in ((12, 1), (8, 5), (3, 10)):
        for name, value in (("mem_get_info", (free, 16)), ("memory_reserved", reserved), ("memory_allocated", 1)):
            gigabytes = tuple(x << 30 for x in value) if isinstance(value, tuple) else value << 30
            monkeypatch.setattr(getattr(torch, kind), name, lambda device, found=gigabytes: found, raising=False)
        sides.append(free_memory(torch.device(kind, 0)))
    assert sides == [12 << 30] * 3
