"""One model, used by many calls at once: the results are to the bit those of calls one after the other."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file

import tadisr
from helpers import tiny, tiny_textdiff
from tadisr import TADiSRPipeline, TextDiffPipeline
from tadisr.io.messages import quiet
from tadisr.models import sharing
from tadisr.models.attention import record_text_attention
from tadisr.models.families import predict
from tadisr.models.recording import recorded

CALLS = [  # image, options
    (tiny.photo(24, 17, seed=0), {}),
    (tiny.photo(16, 33, seed=1), {"tile": 64, "overlap": 16}),
    (tiny.photo(20, 20, seed=2), {"scale": 2, "color_fix": "adain"}),
    (tiny.photo(24, 17, seed=3), {"color_fix": "wavelet"}),
]
LINES = [
    (tiny.photo(64, 16, seed=0), {}),
    (tiny.photo(150, 16, seed=1), {"num_inference_steps": 3}),
    (tiny.photo(40, 12, seed=2), {"num_inference_steps": 7, "temperature": 1.0}),
    (tiny.photo(16, 64, seed=3), {"num_inference_steps": 1, "strength": 0.5}),
]
KINDS = {
    **{family: (lambda folder, make=make: tiny.on_base(make(folder)), CALLS) for family, make in tiny.FAMILIES.items()},
    "tadisr-tiny": (lambda folder: TADiSRPipeline.from_pretrained("tadisr-tiny"), CALLS[:3]),
    "textdiff-tiny": (lambda folder: TextDiffPipeline.from_pretrained("textdiff-tiny"), LINES),
}


def results(pipe, call):
    image, options = call
    return [tensor for part in pipe(image, output_type="pt", return_dict=False, **options) for tensor in part]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def in_threads(work, count=4):
    """What `work(number)` returns in each of several threads that start together."""
    barrier = threading.Barrier(count)

    def start(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_four_threads_and_asyncio(tmp_path, kind, dtype):
    make, calls = KINDS[kind]
    pipe, alone = make(tmp_path).to(dtype), make(tmp_path).to(dtype)
    expected = [results(alone, call) for call in calls]

    def work(thread):
        order = [(thread + i) % len(calls) for i in range(len(calls))]
        return [equal(results(pipe, calls[i]), expected[i]) for i in order]

    assert all(map(all, in_threads(work))), "the first calls of this pipeline are made by all threads at once"

    async def server():
        return await asyncio.gather(*(asyncio.to_thread(results, pipe, call) for call in calls))

    assert all(map(equal, asyncio.run(server()), expected))


def test_two_pipelines_and_a_plain_caller_share_a_backbone(base):
    """Each has a prompt of its own; who records nothing runs the backbone as it was."""
    one = tiny.on_base(base)
    other = TADiSRPipeline(**one.components)
    other.prompt = type(one.prompt).from_config({**one.prompt.config, "text_positions": [1]})
    other.prompt.load_state_dict(one.prompt.state_dict())
    other.prompt.requires_grad_(False)
    latents = torch.rand(1, 4, 6, 10, generator=torch.Generator().manual_seed(0))

    def plain():
        with torch.no_grad():
            return [predict(one.unet, latents, 200, one.prompt, 4)]

    processors = dict(one.unet.attn_processors)
    work = [lambda: results(one, CALLS[0]), lambda: results(other, CALLS[0]), plain, lambda: results(one, CALLS[1])]
    expected = [call() for call in work]
    assert not torch.equal(expected[0][1], expected[1][1]), "the masks depend on the position"
    found = in_threads(lambda thread: [work[thread]() for _ in range(5)])
    for number, outcomes in enumerate(found):
        assert all(equal(outcome, expected[number]) for outcome in outcomes), number
    assert one.unet.attn_processors == processors


def test_of_recordings_one_in_the_other_the_inner_one_records(base):
    pipe = tiny.on_base(base, lora=False)
    layers = pipe.joint_decoder.config.attention_layers
    with torch.no_grad(), record_text_attention(pipe.unet, [0], layers) as outer:
        assert recorded(pipe.unet) is outer
        with record_text_attention(pipe.unet, [0], layers[:1]) as inner:
            predict(pipe.unet, torch.zeros(1, 4, 4, 4), 200, pipe.prompt, 4)
        assert list(inner) == layers[:1] and not outer
        predict(pipe.unet, torch.zeros(1, 4, 4, 4), 200, pipe.prompt, 4)
        assert list(outer) == layers
    assert recorded(pipe.unet) == {}


def test_backward_of_checkpointed_layers_in_a_thread_of_autograds_own(base):
    """As on a GPU: that thread has no recording of its own."""
    pipe = tiny.on_base(base, lora=False)
    pipe.unet.train().enable_gradient_checkpointing()
    layers = pipe.joint_decoder.config.attention_layers
    gradients = []
    for aside in (False, True):
        pipe.unet.zero_grad()
        pipe.unet.requires_grad_()
        with record_text_attention(pipe.unet, [0], layers) as maps:
            out = predict(pipe.unet, torch.ones(1, 4, 4, 4), 200, pipe.prompt, 4)
            loss = out.square().sum() + sum(one.square().sum() for one in maps.values())
            if aside:
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(loss.backward).result()
            else:
                loss.backward()
        gradients.append([p.grad.clone() for p in pipe.unet.parameters() if p.grad is not None])
    assert equal(*gradients) and any(gradient.any() for gradient in gradients[0])


def test_loading_and_saving_meanwhile(tmp_path):
    """While one thread restores, others load in another type and save: nothing of that shows in anybody's results."""
    pipe = TADiSRPipeline.from_pretrained("tadisr-tiny")
    expected, calls = [results(pipe, call) for call in CALLS], len(CALLS)
    layouts = [parameter.stride() for parameter in pipe.unet.parameters()]
    diffusers_logging.set_verbosity_info()

    def work(thread):
        if thread == 0:
            return all(equal(results(pipe, CALLS[i % calls]), expected[i % calls]) for i in range(2 * calls))
        if thread == 1:
            pipe.save_pretrained(tmp_path / "saved")
            return pipe.save_pretrained(tmp_path / "saved") is None
        dtype = (torch.bfloat16, torch.float32)[thread - 2]
        loaded = [tadisr.load("tadisr-tiny", "cpu", dtype, runtime="torch").pipe for _ in range(2)]
        return all(p.dtype is dtype and not p.is_meta for one in loaded for p in one.unet.parameters())

    try:
        assert all(in_threads(work))
        assert diffusers_logging.get_verbosity() == diffusers_logging.logging.INFO
    finally:
        diffusers_logging.set_verbosity_warning()
    assert torch.get_default_dtype() is torch.float32
    assert [parameter.stride() for parameter in pipe.unet.parameters()] == layouts, "saving left the model as it was"
    saved = load_file(tmp_path / "saved" / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in pipe.unet.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_does_not_depend_on_the_default_dtype(tmp_path, kind):
    """A load in another thread changes it for moments."""
    make, calls = KINDS[kind]
    pipe = make(tmp_path)
    expected = [results(pipe, call) for call in calls]
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert all(equal(results(pipe, call), wanted) for call, wanted in zip(calls, expected, strict=True))
    finally:
        torch.set_default_dtype(torch.float32)


def test_quiet_in_several_threads_gives_the_verbosity_back():
    diffusers_logging.set_verbosity_info()
    try:
        with ExitStack() as first, ExitStack() as second:
            first.enter_context(quiet())
            second.enter_context(quiet())
            first.close()
            assert diffusers_logging.get_verbosity() == diffusers_logging.logging.ERROR
        assert diffusers_logging.get_verbosity() == diffusers_logging.logging.INFO
    finally:
        diffusers_logging.set_verbosity_warning()


def test_calls_on_an_offloaded_model_take_turns(tmp_path):
    pipe = tiny.on_base(tiny.sdxl(tmp_path))
    expected = [results(pipe, call) for call in CALLS]
    pipe.enable_model_cpu_offload(device="cpu")  # with the CPU as the accelerator
    inside, most = [], []

    def watched(module, args):
        inside.append(1)
        most.append(len(inside))

    pipe.vae.encoder.conv_in.register_forward_pre_hook(watched)
    pipe.joint_decoder.mask_decoder.conv_out.register_forward_hook(lambda *_: inside.clear())
    found = in_threads(lambda thread: [results(pipe, CALLS[thread]) for _ in range(2)])
    assert all(equal(one, wanted) for outcomes, wanted in zip(found, expected, strict=True) for one in outcomes)
    assert max(most) == 1


def test_a_load_that_fails_leaves_no_default_dtype_behind():
    @sharing.one_load_at_a_time
    def load():
        torch.set_default_dtype(torch.bfloat16)
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        load()
    assert torch.get_default_dtype() is torch.float32


def test_a_smaller_tile_that_another_call_found_stays(monkeypatch):
    pipe = tiny.lean()
    pipe._largest_tile = 128

    def fail_once(part, scale, fidelity, restore_tile=pipe.restore_tile, failed=[]):  # noqa: B006
        if not failed:
            failed.append(1)
            raise MemoryError
        return restore_tile(part, scale, fidelity)

    monkeypatch.setattr(pipe, "_fits", lambda: 512)
    monkeypatch.setattr(pipe, "restore_tile", fail_once)
    pipe(tiny.photo(128, 16))
    assert pipe._largest_tile == 128


# ---- processes

PROCESSES = """
import multiprocessing, sys
import numpy as np, torch
from tadisr import TADiSRPipeline

photo = np.arange(40 * 48 * 3, dtype=np.uint8).reshape(40, 48, 3)
pipe = TADiSRPipeline.from_pretrained("tadisr-tiny")

def restore(queue):
    try:
        image = pipe(photo, output_type="uint8").images[0]
        queue.put((torch.get_num_threads(), image))
    except RuntimeError as error:
        queue.put(str(error))

def in_child(method):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=restore, args=(queue,))
    child.start()
    result = queue.get(timeout=100)
    child.join()
    return result

if __name__ == "__main__":
    expected = pipe(photo, output_type="uint8").images[0]
    for method in sys.argv[1:]:
        threads, image = in_child(method)
        print(torch.get_num_threads(), threads, np.abs(image.astype(int) - expected).max())
    if "fork" in sys.argv:
        def progress(tiles):
            print(in_child("fork"))
            return iter(tiles)
        pipe(photo, tile=64, overlap=0, tile_progress=progress)
"""


def test_processes(tmp_path):
    """A spawned one has all threads. One forked after use has one, and one forked amid a call is refused: no hang."""
    (tmp_path / "processes.py").write_text(PROCESSES)
    methods = ["spawn", *(["fork"] if hasattr(os, "fork") else [])]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "processes.py"), *methods], env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "2 2 0"
    if "fork" in methods:
        before, inside, difference = map(int, said[1].split())
        assert (before, inside) == (2, 1) and difference <= 1, "on other threads sums are added up in another order"
        assert len(said) == 3 and said[2].startswith("This process was forked while its parent was using a model")
        assert 'the method "spawn" gives them all' in done.stderr


# ---- memory and precision


@pytest.mark.parametrize(
    ("host", "added"),
    [
        ({}, {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256"}),
        ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}, {}),
        ({"DNNL_PRIMITIVE_CACHE_CAPACITY": "65"}, {}),
    ],
)
def test_the_cache_of_layers_is_bounded_unless_the_host_says_otherwise(host, added):
    environment = dict(host)
    sharing.bound_cache(environment)
    assert environment == host | added
    assert "PRIMITIVE_CACHE_CAPACITY" in "".join(os.environ), "and so it is in this process"


def test_types_by_name():
    for cls, name in ((TADiSRPipeline, "tadisr-tiny"), (TextDiffPipeline, "textdiff-tiny")):
        assert str(cls.from_pretrained(name, dtype="auto").dtype) == f"torch.{tadisr.load(name, runtime='torch').dtype}"
        assert cls.from_pretrained(name).dtype is torch.float32
        with pytest.raises(ValueError, match='dtype must be "auto", "float32", .* got .nonsense'):
            cls.from_pretrained(name, dtype="nonsense")


def test_float16_is_refused_where_it_does_not_hold_the_values():
    with pytest.raises(ValueError, match="tadisr-tiny has no normalisation, .* take bfloat16 or float32"):
        tadisr.load("tadisr-tiny", "cpu", "float16")


def test_damaged_weights_do_not_blame_the_type():
    pipe = tiny.lean()
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias[0] = np.nan
    with pytest.raises(FloatingPointError, match="The weights decoder.conv_out.bias of the Lean.* are not finite"):
        pipe(tiny.photo())
    pipe = tiny.lean()
    torch.nn.init.constant_(pipe.vae.decoder.conv_out.weight, 3e38)
    with pytest.raises(FloatingPointError, match="not finite, in float32 too: its training went wrong"):
        pipe(tiny.photo())
    assert sharing._Process.running == 0


def test_toy_textdiff_in_threads():
    pipe = tiny_textdiff.textdiff()
    expected = [results(pipe, call) for call in LINES]
    assert all(in_threads(lambda thread: equal(results(pipe, LINES[thread]), expected[thread])))
    assert pipe.scheduler.num_inference_steps is None, "a call leaves the schedule as it is"
