"""Lines read per second: one pass of the evaluation against one line at a time.

python benchmarks/evaluation.py DATA [--engine rapidocr] [--lines 1000] [--workers 2]

DATA is what `tadisr evaluate --data` takes, with lines of text. They are cut out of the HR images and of what bicubic,
Lanczos and nearest-neighbour interpolation make of the LR images, and moved by a few pixels until there are enough.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

from tadisr.evaluation.methods import INTERPOLATIONS, Interpolation
from tadisr.evaluation.pairs import open_data
from tadisr.evaluation.report import open_engine
from tadisr.ocr import crop_line, load_engine


def collect(data, count: int) -> list[np.ndarray]:
    """`count` different upright lines, uint8 RGB."""
    crops, step = [], 0
    while len(crops) < count:
        for i in range(len(data)):
            pair = data[i]
            versions = [Interpolation(kind, kind, data.scale)(pair.lr, pair.name).image for kind in INTERPOLATIONS]
            for image in (pair.hr, *versions):
                crops += [crop_line(image, line.quad + [step % 3, step // 3]) for line in pair.lines]
        step += 1
        if not crops:
            raise SystemExit("The data set names no lines of text.")
    return crops[:count]


def measure(read: Callable[[list[np.ndarray]], list[str]], lines: list[np.ndarray]) -> tuple[float, list[str]]:
    """Lines per second, and what was read."""
    read(lines[:2])  # loads the models
    started = time.perf_counter()
    texts = read(lines)
    return len(lines) / (time.perf_counter() - started), texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--engine", default="rapidocr")
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--single", type=int, default=100, help="lines to read one at a time")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts: others may use the machine")
    args = parser.parse_args()
    lines = collect(open_data(args.data), args.lines)
    one, batched = load_engine(args.engine), open_engine(args.engine, args.workers)[1]
    ways = {
        "one line at a time": (lambda some: [one.read([line])[0].text for line in some], lines[: args.single]),
        f"one pass, {args.workers} workers": (lambda some: [reading.text for reading in batched.read(some)], lines),
    }
    if args.engine == "rapidocr":
        from rapidocr import RapidOCR

        plain = RapidOCR(params={"Global.log_level": "error"})

        def call(some: list[np.ndarray]) -> list[str]:
            results = [plain(line[..., ::-1], use_det=False, use_cls=False, use_rec=True) for line in some]
            return [result.txts[0] if result.txts else "" for result in results]

        ways = {"RapidOCR()(line), one at a time": (call, lines[: args.single])} | ways
    best, texts = {}, {}
    for _ in range(args.rounds):
        for name, (read, some) in ways.items():
            speed, texts[name] = measure(read, some)
            best[name] = max(speed, best.get(name, 0))
    for name, speed in best.items():
        print(f"{name:32s} {speed:8.1f} lines/s  {speed / best[next(iter(best))]:5.2f}x")
    single, together = texts["one line at a time"], texts[f"one pass, {args.workers} workers"]
    print(f"{sum(a == b for a, b in zip(single, together, strict=False))} of {len(single)} lines read the same")


if __name__ == "__main__":
    main()
