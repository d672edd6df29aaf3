"""Whether the trust report's verdicts are right: lines that agree or are to be checked, against the reading of HR.

    python benchmarks/trust.py tadisr-tiny DATA [--limit N]

DATA is what `tadisr evaluate` takes. A line is right where the engine reads the same in the same region of HR.
"""

import argparse
from collections import Counter

import numpy as np
from PIL import Image

from tadisr import TADiSRPipeline
from tadisr.evaluation.pairs import open_data
from tadisr.metrics.text import agreement
from tadisr.ocr import crop_line
from tadisr.trust.check import AGREE, CHECK, check_text, trust_engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--limit", type=int, help="the first N pictures")
    args = parser.parse_args()
    pipe, engine, data = TADiSRPipeline.from_pretrained(args.model), trust_engine(), open_data(args.data)
    counts: Counter[tuple[str, bool]] = Counter()
    pictures = min(len(data), args.limit or len(data))
    for number in range(pictures):
        pair = data[number]
        sr = np.asarray(pipe(Image.fromarray(pair.lr)).images[0])
        lines = check_text(pair.lr, sr).lines
        truths = engine.read([crop_line(pair.hr, np.float32(line.quad)) for line in lines])
        counts.update(
            (line.verdict, agreement(line.output.text, truth.text) == 1)
            for line, truth in zip(lines, truths, strict=True)
        )
    agreed, to_check = (counts[verdict, True] + counts[verdict, False] for verdict in (AGREE, CHECK))
    print(f"{pictures} pictures: {agreed} lines agree, {counts[AGREE, True]} of them right; {to_check} to check, "
          f"{counts[CHECK, False]} of them wrong")  # noqa: T201  # fmt: skip


if __name__ == "__main__":
    main()
