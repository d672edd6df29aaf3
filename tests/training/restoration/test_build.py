"""What is trained: which bases fit, who gets gradients, losses that are not finite, and that it can be learned."""

import copy
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from helpers import pages, tiny
from helpers import training_runs as runs
from tadisr import TADiSRPipeline
from tadisr.models.network import TADiSRNetwork
from tadisr.training import train_lora
from tadisr.training.engine.train_state import trainable
from tadisr.training.restoration.build import DTYPES, build_network, check_base
from tadisr.training.restoration.terms import load_lpips, loss_terms
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import network_input

slow = pytest.mark.skipif(not os.environ.get("TADISR_SLOW"), reason="minutes; set TADISR_SLOW=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


def config_on(base, tmp_path, **options):
    base.save_pretrained(tmp_path / "base")
    return TrainConfig(
        pretrained_model_name_or_path=str(tmp_path / "base"), train_data_dir=["d"], output_dir=str(tmp_path / "run"),
        lpips=0.0, **options,
    )  # fmt: skip


def groups(network):
    """Every parameter by what the paper calls it: U-Net LoRA, VAE LoRA, W_a, mask decoder, CDIBs, or frozen."""
    found = {}
    for name, parameter in network.named_parameters():
        part, rest = name.split(".", 1)
        if part in ("unet", "vae"):
            group = f"{part} lora" if "lora_" in rest else "frozen"
        else:
            group = rest.split(".")[0] if part == "joint_decoder" else "frozen"
        found.setdefault(group, {})[name] = parameter
    return found


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_every_trained_group_has_gradients_and_nothing_else(base, tmp_path, precision):
    config = config_on(base, tmp_path, mixed_precision=precision)
    network = build_network(config)
    found = groups(network)
    assert set(found) == {"unet lora", "vae lora", "attention", "mask_decoder", "interactions", "frozen"}
    assert {p.dtype for g, ps in found.items() if g != "frozen" for p in ps.values()} == {torch.float32}
    convolution = network.unet.conv_in.weight
    assert convolution.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    # what starts at zero keeps others' gradients at zero in the first step
    tiny.shake(network.unet, "lora_B")
    tiny.shake(network.vae, "lora_B")
    tiny.shake(network.joint_decoder.interactions, ".scale")
    with network.recording(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        terms = loss_terms(network, config, runs.crop_batch(side=64))
        sum(terms.values()).backward()
    for group, parameters in found.items():
        for name, parameter in parameters.items():
            if group == "frozen":
                assert parameter.grad is None and not parameter.requires_grad, name
            else:
                assert parameter.grad is not None, name
        if group != "frozen":
            idle = [name for name, parameter in parameters.items() if parameter.grad.abs().sum() == 0]
            assert len(idle) < 0.02 * len(parameters), idle
    assert {id(p) for p in trainable(network)} == {id(p) for g in found if g != "frozen" for p in found[g].values()}


def test_gradient_checkpointing_changes_no_gradient_and_keeps_less(base, tmp_path):
    gradients, kept = [], []
    for checkpointing in (False, True):
        config = config_on(base, tmp_path, gradient_checkpointing=checkpointing, mixed_precision="no")
        network = build_network(config)
        torch.manual_seed(1)
        tiny.shake(network.unet, "lora_B")
        tiny.shake(network.vae, "lora_B")
        tiny.shake(network.joint_decoder, ".scale")
        saved = {}

        def pack(tensor, saved=saved):
            saved[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with network.recording():
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = sum(loss_terms(network, config, runs.crop_batch(side=64)).values())
            loss.backward()
        gradients.append([parameter.grad for parameter in trainable(network)])
        kept.append(sum(saved.values()))
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, atol=1e-4, rtol=1e-5)
    assert kept[1] < 0.5 * kept[0]


def test_the_authors_alpha_doubles_what_the_unets_adapter_adds(tmp_path):
    """And makes it four times as much in the VAE: as saved, loaded and fused."""
    base, added = tiny.sd(tmp_path), {}
    for alpha in (None, 8):
        config = config_on(base, tmp_path, lora_alpha=alpha, mixed_precision="no")
        network = build_network(config)
        torch.manual_seed(1)
        tiny.shake(network.unet, "lora_B")
        tiny.shake(network.vae, "lora_B")
        pipe = TADiSRPipeline(
            vae=network.vae, unet=network.unet, scheduler=network.scheduler, prompt=network.prompt,
            joint_decoder=network.joint_decoder, native_scale=4, base_model=str(tmp_path / "base"),
        )  # fmt: skip
        pipe.save_pretrained(tmp_path / str(alpha))
        fused = TADiSRPipeline.from_pretrained(tmp_path / str(alpha), fuse_lora=True)
        for part in ("unet", "vae"):
            plain, own = getattr(base, part).state_dict(), getattr(fused, part).state_dict()
            own = {name.replace(".base_layer", ""): x for name, x in own.items()}
            added[part, alpha] = {name: own[name] - x for name, x in plain.items() if not torch.equal(own[name], x)}
    for part, factor in (("unet", 2), ("vae", 4)):
        once, more = added[part, None], added[part, 8]
        assert once and once.keys() == more.keys()
        for name, x in once.items():
            torch.testing.assert_close(more[name], factor * x, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("least", [1.0, 0.25, 0.0])
def test_the_recogniser_reads_what_is_released(tmp_path, least):
    pipe = tiny.lean()
    lines = runs.crop_batch(side=64) | {"box": torch.tensor([[0, 64, 0, 64]]), "text": ["ad"]}
    config = TrainConfig(
        base_config="x", train_data_dir=["x"], lpips=0.0, recognizer_strength=least,
        recognizer=["x"], recognizer_weight=0.0, recognizer_ctc=2.0,
    )  # fmt: skip
    network = TADiSRNetwork(pipe.vae, pipe.unet, pipe.prompt, pipe.joint_decoder, pipe.scheduler)
    start, shares = network_input(lines["lr"], 4), []
    with torch.no_grad(), network.recording():
        added = network(start)[0] - start

        def recogniser(image, target, boxes, texts):
            assert torch.equal(target, lines["hr"] * 2 - 1) and torch.equal(boxes, lines["box"]) and texts == ["ad"]
            share = ((image - start) * added).sum() / added.square().sum()
            torch.testing.assert_close(image - start, share * added, atol=1e-5, rtol=1e-4)
            shares.append(float(share))
            return {"recognizer": torch.tensor(1.0), "recognizer_ctc": torch.tensor(3.0)}

        for _ in range(1 if least == 1 else 12):
            terms = loss_terms(network, config, lines, lines, recognizer=recogniser)
    assert float(terms["recognizer_ctc"]) == 6 and "recognizer" not in terms
    assert least - 1e-4 < min(shares) and max(shares) < 1 + 1e-4
    assert max(shares) - min(shares) > 0.3 * (1 - least) - 1e-4


def test_the_prompt_is_encoded_once(tmp_path):
    base = tiny.sd(tmp_path)
    config = config_on(base, tmp_path)
    first = build_network(config)
    for name in ("text_encoder", "tokenizer"):
        (tmp_path / "base" / name).rename(tmp_path / name)
    again = build_network(config)
    assert torch.equal(first.prompt.prompt_embeds, again.prompt.prompt_embeds)
    assert all(torch.equal(a, b) for a, b in zip(trainable(first), trainable(again), strict=True))
    with pytest.raises(Exception, match="Error no file named"):  # another prompt needs them again
        build_network(TrainConfig(**{**vars(config), "prompt": "a text"}))


def test_bases_that_do_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(FileNotFoundError, match="No diffusers pipeline"):
            check_base(name)
    flux = {
        "_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }  # fmt: skip
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text(json.dumps(flux))
    with pytest.raises(ValueError) as error:
        check_base(str(tmp_path / "flux"))
    said = str(error.value)
    assert "a FluxPipeline with AutoencoderKL, FluxTransformer2DModel" in said and "\n" not in said
    assert all(name in said for name in ("Stable Diffusion 1.x and 2.x", "SDXL", "Kolors", "CogView4"))

    base = tiny.sd(tmp_path)
    plain = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    for change, message in (
        ({"unet": tiny.unet(in_channels=9)}, "reads 9 channels and its VAE has 4"),
        ({"unet": tiny.unet(**plain, mid_block_type="UNetMidBlock2D")}, "has no cross-attention. Supported: "),
        ({"scheduler": FlowMatchEulerDiscreteScheduler()}, "no DDPM noise schedule"),
        ({"scheduler": DDPMScheduler(prediction_type="sample")}, "predicts sample, not epsilon or v. Supported: "),
    ):
        wrong = copy.copy(base)
        folder = tmp_path / message.replace(" ", "_")
        for name, component in change.items():
            wrong.register_modules(**{name: component})
        with pytest.raises(ValueError, match=message):
            build_network(config_on(wrong, folder))


def test_a_base_that_is_incomplete(tmp_path):
    config = config_on(tiny.sd(tmp_path), tmp_path)
    for part in ("unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"):
        (tmp_path / "base" / part).rename(tmp_path / "aside")
        with pytest.raises(FileNotFoundError, match=r"base is incomplete: [^\n]*$"):
            build_network(config)
        (tmp_path / "aside").rename(tmp_path / "base" / part)


def test_the_variant_that_was_asked_for(tmp_path):
    """Of a base with files of both kinds: the half-precision ones differ here, to be told apart."""
    base = tiny.sd(tmp_path)
    config = config_on(base, tmp_path, variant="fp16")
    with torch.no_grad():
        base.unet.conv_in.weight.fill_(0.5)
    base.save_pretrained(tmp_path / "base", variant="fp16")
    assert (build_network(config).unet.conv_in.weight == 0.5).all()
    assert (build_network(TrainConfig(**{**vars(config), "variant": None})).unet.conv_in.weight != 0.5).any()


def test_cogview4_is_trained_and_its_adapter_loads(data, tmp_path):
    tiny.cogview4(tmp_path).save_pretrained(tmp_path / "base")
    runs.fresh()
    train_lora.main([
        "--pretrained_model_name_or_path", str(tmp_path / "base"), "--train_data_dir", str(data),
        "--validation_data_dir", str(data), "--num_validation_images", "1", "--output_dir", str(tmp_path / "run"),
        "--resolution", "32", "--degradation", "mild", "--lpips", "0", "--learning_rate", "1e-2",
        "--gradient_checkpointing", "--max_train_steps", "2", "--dataloader_num_workers", "0",
    ])  # fmt: skip
    *_, last = runs.records(tmp_path / "run")
    assert {"psnr", "mask_iou"} <= last.keys()
    trained = runs.weights(tmp_path / "run")
    for part in ("transformer_lora", "vae_lora"):
        changed = [x.abs().max() > 0 for name, x in trained.items() if name.startswith(part) and "lora_B" in name]
        assert changed and sum(changed) > 0.9 * len(changed), part
    adapter = tmp_path / "run" / "weights"
    pipe = TADiSRPipeline.from_pretrained(adapter)
    assert pipe.unet is None
    photo = tiny.photo(16, 8)
    trained = pipe(photo, output_type="pt")
    assert trained.images[0].shape == (3, 32, 64) and trained.text_masks[0].std() > 0
    pipe.transformer.disable_adapters()
    assert not torch.equal(pipe(photo, output_type="pt").images[0], trained.images[0])


def test_a_loss_that_is_not_finite_stops(data, tmp_path):
    with pytest.raises(ValueError, match=r"Step 2: the loss is not finite \(.*nan_batch.json names the crops") as error:
        runs.train(data, tmp_path / "run", learning_rate=1e30, lr_scheduler="constant", lr_warmup_steps=0)
    assert "\n" not in str(error.value) and "--on_nan skip" in str(error.value)
    [record] = [json.loads(line) for line in (tmp_path / "run" / "nan_batch.json").read_text().splitlines()]
    assert record["step"] == 2 and [crop["index"] for crop in record["crops"]] == [2, 3]
    assert all("row" in crop["name"] for crop in record["crops"])
    assert set(record["terms"].values()) & {"nan", "inf"}


def test_half_precision(data, tmp_path):
    out = runs.train(data, tmp_path / "bf16", mixed_precision="bf16", max_train_steps=2)
    full = runs.train(data, tmp_path / "full", max_train_steps=2)
    a, b = (runs.records(run)[-1]["focal"] for run in (out, full))
    assert a != b and a == pytest.approx(b, rel=0.05)
    assert {x.dtype for x in runs.weights(out).values()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_losses_get_float32_images_under_autocast(base, tmp_path, precision):
    """float16 is the U-Net's alone: here the VAE's values outgrow it, as those of SDXL and Kolors do."""
    base = copy.copy(base)
    base.vae = copy.deepcopy(base.vae)
    for coder in (base.vae.encoder, base.vae.decoder):
        for parameter in coder.conv_in.parameters():
            parameter.data *= 1e5
    found, reached = [], []
    for kind in (precision, "no"):
        config = config_on(base, tmp_path, mixed_precision=kind)
        network, dtype = build_network(config), DTYPES[kind]
        for model in (network.unet, network.vae):
            tiny.shake(model, "lora_B", 0.01)
        network.vae.decoder.mid_block.register_forward_hook(lambda *call: reached.append(call[-1].detach().abs().max()))
        network.register_forward_hook(lambda *call: found.append(call[-1]))
        with network.recording(), torch.autocast("cpu", dtype, enabled=kind != "no"):
            terms = loss_terms(network, config, runs.crop_batch(side=64))
            sum(terms.values()).backward()
        found.append(terms)
        assert network.unet.conv_in.weight.dtype == dtype
        assert network.vae.encoder.conv_in.weight.dtype == (torch.bfloat16 if kind == "bf16" else torch.float32)
        assert all(parameter.grad.isfinite().all() for parameter in trainable(network))
    assert min(reached) > 65504
    outputs, terms, _, exact = found
    assert {x.dtype for x in outputs} == {torch.float32}
    for name, value in terms.items():
        assert float(value.detach()) == pytest.approx(float(exact[name].detach()), rel=0.02), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is a GPU fp16 works")
def test_fp16_needs_a_gpu(data, tmp_path):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        runs.train(data, tmp_path / "run", mixed_precision="fp16")


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_fp16_where_the_vae_would_be_halved_too(kind):
    config = TrainConfig(pretrained_model_name_or_path="x", train_data_dir=["d"], mixed_precision="fp16")
    with pytest.raises(ValueError, match="fp16 keeps the VAE in float32, FSDP and DeepSpeed do not: take bf16, or"):
        train_lora.Restoration(config, SimpleNamespace(distributed_type=kind))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_on_a_gpu(data, tmp_path):
    out = runs.train(data, tmp_path / "run", mixed_precision="fp16", max_train_steps=4)
    assert all(torch.isfinite(x).all() for x in runs.weights(out).values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_going_on_on_a_gpu(data, tmp_path):
    whole = runs.weights(runs.train(data, tmp_path / "whole", max_train_steps=4))
    runs.train(data, tmp_path / "parts", max_train_steps=2, checkpointing_steps=2)
    parts = runs.train(data, tmp_path / "parts", max_train_steps=4, resume_from_checkpoint="latest")
    for name, value in runs.weights(parts).items():
        torch.testing.assert_close(value, whole[name], atol=1e-3, rtol=1e-2)


def test_more_processes_than_gpus_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 processes are too many for 1 GPU: one each, or CUDA_VISIBLE_DEVICES="):
        runs.train(data, tmp_path / "run")


@slow
def test_four_triplets_are_learned_by_heart(tmp_path):
    """The bundled base, its own recipe: what it was trained on it must read and segment."""
    source = pages.data_set(tmp_path / "source", 5, 96, font_size=(14, 20))
    import pyarrow.parquet as pq

    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    rows = pq.read_table(sorted((source / "data").glob("train-*.parquet"))[0]).slice(0, 4)
    for split in ("train", "test"):
        pq.write_table(rows, folder / f"{split}-00000-of-00001.parquet")
    runs.fresh()
    out = tmp_path / "run"
    runs.train_lora.main([
        "--config", str(runs.ROOT / "training" / "configs" / "tiny.yaml"), "--output_dir", str(out),
        "--base_config", str(runs.ROOT / "training" / "tiny" / "tiny_base.json"),
        "--train_data_dir", str(folder.parent), "--validation_data_dir", str(folder.parent),
        "--augmentation", "False", "--degradation", "stored", "--train_batch_size", "4", "--text_share", "0",
        "--max_train_steps", "700", "--validation_steps", "100", "--checkpointing_steps", "700", "--resolution", "96",
        "--validation_ocr", "rapidocr", "--ema_decay", "0.98", "--dataloader_num_workers", "0",
        "--learning_rate", "2e-3", "--lr_scheduler", "cosine",
    ])  # fmt: skip
    scores = runs.records(out)[-1]
    print({name: round(value, 3) for name, value in scores.items()})
    assert scores["mask_iou"] > 0.9 and scores["ocr_accuracy"] > 0.9


def test_more_layers_start_as_the_network_they_were_added_to(tmp_path):
    pipe = tiny.lean()
    pipe.save_pretrained(tmp_path / "shallow")
    shape = {name: dict(getattr(pipe, name).config) for name in ("vae", "unet", "prompt")} | {"scheduler": {}}
    shape["joint_decoder"] = {"mask_layers_per_block": pipe.vae.config.layers_per_block}
    path, image = tmp_path / "shape.json", torch.rand(1, 3, 64, 64) * 2 - 1

    def outputs(**changes):
        path.write_text(json.dumps(shape | {"vae": shape["vae"] | changes}))
        network = build_network(
            TrainConfig(
                base_config=str(path), init_from=str(tmp_path / "shallow"), train_data_dir=["x"], encoder_skips=True,
                image_residual=True,
            )
        )  # fmt: skip
        with torch.no_grad(), network.recording():
            return network(image), len(trainable(network))

    (wanted, few), (found, many) = outputs(), outputs(layers_per_block=3)
    torch.testing.assert_close(found, wanted)
    assert many == few + 4 * 4  # two more ResBlocks in each of encoder and decoder, two layers in each
    assert (wanted[0] - image).abs().mean() > 1e-3
    shape["joint_decoder"]["mask_prompt"] = True  # its encoder starts at nothing
    prompted, more = outputs()
    assert more == few + 3 and all(torch.equal(one, other) for one, other in zip(prompted, wanted, strict=True))
    shape["joint_decoder"]["mask_prompt_blocks"] = 2
    prompted, most = outputs()
    assert most == more + 4 + 2 * 4 and all(map(torch.equal, prompted, wanted))
    del shape["joint_decoder"]["mask_prompt_blocks"]
    del shape["joint_decoder"]["mask_prompt"]
    with pytest.raises(ValueError, match="init_from holds another LeanAutoencoderKL: decoder.up_blocks.0.resnets.1"):
        outputs(layers_per_block=0)
    with pytest.raises(ValueError, match=r"LeanAutoencoderKL: encoder.conv_in.weight is \(8, .* there and \(16,"):
        outputs(block_out_channels=[16])
    shutil.rmtree(tmp_path / "shallow")
    with pytest.raises(FileNotFoundError, match="No model .*shallow"):
        outputs()
    with pytest.raises(ValueError, match="init_from starts a base from scratch"):
        TrainConfig(pretrained_model_name_or_path="base", init_from="run", train_data_dir=["x"])


def test_a_part_is_trained_and_all_else_stays(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(runs.BASE))
    options = {
        "base_config": str(tmp_path / "base.json"), "train_data_dir": ["x"], "mask_prompt": True,
        "mask_prompt_blocks": 1, "train_only": ["joint_decoder.prompt_follower", "vae.encoder.conv_in"],
    }  # fmt: skip
    network = build_network(TrainConfig(**options))
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 + 8 and all(name.startswith(tuple(options["train_only"])) for name in trained)
    with pytest.raises(ValueError, match="train_only: no weight's name begins with vae.lora."):
        build_network(TrainConfig(**options | {"train_only": ["vae.lora"]}))
    with pytest.raises(ValueError, match="train_only is for base_config: of a pretrained base, adapters alone"):
        TrainConfig(pretrained_model_name_or_path="base", train_only=["vae"], train_data_dir=["x"])


def test_a_step_with_mask_prompts_trains_their_encoder(tmp_path):
    """Batches without a prompt give every weight a gradient, too."""
    (tmp_path / "base.json").write_text(json.dumps(runs.BASE))
    config = TrainConfig(
        base_config=str(tmp_path / "base.json"), train_data_dir=["x"], lpips=0.0, encoder_skips=True,
        image_residual=True, mask_prompt=True, text_mse=10.0,
    )  # fmt: skip
    network = runs.toy_network(config)
    encoder = network.joint_decoder.prompt_encoder
    assert encoder.conv_in.weight.any() and not encoder.to_image.weight.any() and not encoder.to_mask.weight.any()
    tiny.shake(network.vae.decoder, "conv_out", 0.1)  # which starts at zero
    plain = runs.crop_batch()
    batch = plain | {"mask_prompt": torch.cat([plain["mask"], torch.ones_like(plain["mask"])], 1)}
    optimizer = torch.optim.SGD(encoder.parameters(), 0.01)
    for given, working in ((plain, []), (batch, ["to_image", "to_mask"]), (batch, ["conv_in", "to_image", "to_mask"])):
        with network.recording():
            sum(loss_terms(network, config, given).values()).backward()
        gradients = {name.split(".")[0]: parameter.grad for name, parameter in encoder.named_parameters()}
        assert [name for name, gradient in gradients.items() if gradient.any()] == working
        optimizer.step()
        optimizer.zero_grad()


def test_base_configs_of_another_kind_are_named(tmp_path):
    shape = runs.BASE | {"vae": runs.BASE["vae"] | {"layers": 3}}
    for text, message in (
        ("{", "base.json is not JSON"),
        ("[]", "base.json holds no object"),
        ("{}", "base_config lacks prompt, scheduler, unet, vae"),
        ('{"vae": 3}', "each part, such as vae, must be an object"),
        ('{"extends": "base.json"}', "extends itself"),
        (json.dumps(shape), "vae is no LeanAutoencoderKL: .*layers"),
    ):
        (tmp_path / "base.json").write_text(text)
        with pytest.raises(ValueError, match=message) as error:
            build_network(TrainConfig(base_config=str(tmp_path / "base.json"), train_data_dir=["d"]))
        assert "\n" not in str(error.value)


def test_lpips_weights_of_another_kind_are_named(tmp_path):
    (file := tmp_path / "notes.md").write_text("# Notes\n")
    config = TrainConfig(base_config="b", train_data_dir=["d"], lpips=5, lpips_weights=str(file))
    with pytest.raises(ValueError, match=r"notes\.md is no copy of torchvision's vgg16 weights"):
        load_lpips(config)
