"""tadisr-tiny beside Real-ESRGAN x4plus on a CPU: seconds, memory, and what a cold start takes, by runtime and type.

    python benchmarks/speed.py [--side 96] [--repeats 5]

Every network runs in a process of its own; all take turns, so that a busy moment hits all. The median is printed. The
time of a tile is that of the network alone, on one LR tile of `--side` pixels. The cold start is a whole command:
Python starts, a 128 x 128 picture becomes one of 512 x 512, and the process ends. Needs the extras `metrics` and
`export`, and a quiet machine.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

NETWORKS = {  # name: (network, runtime, type)
    "Real-ESRGAN, PyTorch float32": ("esrgan", "torch", "float32"),
    "Real-ESRGAN, PyTorch bfloat16": ("esrgan", "torch", "bfloat16"),
    "Real-ESRGAN, ONNX float32": ("esrgan", "onnx", "float32"),
    "Real-ESRGAN, ONNX int8": ("esrgan", "onnx", "int8"),
    "tadisr-tiny, PyTorch float32": ("tadisr", "torch", "float32"),
    "tadisr-tiny, PyTorch bfloat16": ("tadisr", "torch", "bfloat16"),
    "tadisr-tiny, ONNX float32": ("tadisr", "onnx", "float32"),
    "tadisr-tiny, ONNX int8": ("tadisr", "onnx", "int8"),
}
SCALE, COLD = 4, 128


def export_esrgan(folder: Path) -> None:
    """Real-ESRGAN as ONNX files, by the exporter and the quantiser that our own graphs go through."""
    import torch

    from tadisr.evaluation.real_esrgan import find_weights, load_real_esrgan
    from tadisr.runtime.export import CROP, _planes, _quantize, calibration_images

    model = load_real_esrgan(find_weights()).model.to(memory_format=torch.contiguous_format)
    raw, int8 = folder / "esrgan_float32.onnx", folder / "esrgan_int8.onnx"
    dynamic = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(
        model, (torch.rand(2, 3, 40, 56),), raw, dynamo=True, dynamic_shapes=dynamic, verbose=False, opset_version=20,
        input_names=["lr"], output_names=["image"], external_data=False,
    )  # fmt: skip
    _quantize(raw, int8, [{"lr": _planes(image, CROP)} for image in calibration_images()])


def worker(network: str, runtime: str, dtype: str, side: int, folder: Path) -> None:
    """Answer every line on stdin with the seconds of one tile, and at the end with the peak memory."""
    import resource

    import numpy as np

    lr = np.random.default_rng(0).random((1, 3, side, side), np.float32)
    if runtime == "onnx" and network == "esrgan":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / f"esrgan_{dtype}.onnx", providers=["CPUExecutionProvider"])
        run = lambda: session.run(None, {"lr": lr})  # noqa: E731
    elif runtime == "onnx":
        from tadisr.loading.graphs import find_graph
        from tadisr.runtime.graph import Graph

        graph = Graph(find_graph("tadisr-tiny", dtype), "cpu")
        run = lambda: graph(lr)  # noqa: E731
    else:
        import torch

        precision, x = getattr(torch, dtype), torch.from_numpy(lr)
        if network == "esrgan":
            from tadisr.evaluation.real_esrgan import find_weights, load_real_esrgan

            model = load_real_esrgan(find_weights()).model.to(precision)
            x = x.to(precision)
        else:
            from tadisr import TADiSRPipeline

            pipe = TADiSRPipeline.from_pretrained("tadisr-tiny", dtype=precision)
            pipe(np.zeros((16, 16, 3), np.uint8))  # brings the weights to their layout
            model = pipe.restore_tile

        def run() -> object:
            with torch.inference_mode():
                return model(x)

    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, flush=True)


def tiles(side: int, repeats: int, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of a tile and peak GiB, by the networks' names."""
    processes, found = {}, {}
    for name, (network, runtime, dtype) in NETWORKS.items():
        command = [sys.executable, __file__, "--worker", network, runtime, dtype, "--side", str(side)]
        processes[name] = subprocess.Popen(
            [*command, "--folder", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert processes[name].stdout.readline() == "ready\n", name
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(repeats):
        for name, process in processes.items():
            time.sleep(1)  # ONNX Runtime's threads keep waiting for work, and a core busy, for a while
            process.stdin.write("\n")
            process.stdin.flush()
            seconds[name].append(float(process.stdout.readline()))
    for name, process in processes.items():
        memory, _ = process.communicate()
        found[name] = {"seconds": median(seconds[name]), "GiB": float(memory)}
    return found


def cold(repeats: int, folder: Path) -> dict[str, float]:
    """Seconds from a cold start to a finished picture of 512 x 512, by the command's runtime."""
    import numpy as np
    from PIL import Image

    picture = folder / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (COLD, COLD, 3), np.uint8)).save(picture)
    seconds: dict[str, list[float]] = {"torch": [], "onnx": []}
    for _ in range(repeats):
        for runtime, known in seconds.items():
            start = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "tadisr",
                "upscale",
                picture,
                "-o",
                folder / "out",
                "-q",
                "--device",
                "cpu",
            ]
            subprocess.run([*map(str, command), "--runtime", runtime], check=True)
            known.append(time.perf_counter() - start)
    return {runtime: median(known) for runtime, known in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker, args.side, args.folder)
        return
    assert find_spec("onnxscript"), "pip install 'tadisr[export]'"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Not in this process: a process that starts another one passes its own peak on as that one's least.
        child = multiprocessing.get_context("spawn").Process(target=export_esrgan, args=(folder,))
        child.start()
        child.join()
        assert child.exitcode == 0, "Real-ESRGAN was not exported"
        found, starts = tiles(args.side, args.repeats, folder), cold(max(3, args.repeats // 2), folder)
    megapixels = (args.side * SCALE) ** 2 / 1e6
    usual = found["Real-ESRGAN, PyTorch float32"]["seconds"]
    print(
        f"| LR tile of {args.side} x {args.side} | seconds | seconds per output megapixel | times as fast | peak GiB |"
    )
    print("|---|---:|---:|---:|---:|")
    for name, row in found.items():
        seconds = row["seconds"]
        print(f"| {name} | {seconds:.3f} | {seconds / megapixels:.2f} | {usual / seconds:.1f} | {row['GiB']:.2f} |")
    print(json.dumps({f"cold start to 512 x 512, {runtime}, s": round(value, 2) for runtime, value in starts.items()}))


if __name__ == "__main__":
    main()
