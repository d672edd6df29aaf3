"""The `tesseract` program (Debian: `tesseract-ocr`)."""

import csv
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tadisr.io.hashing import hashes
from tadisr.ocr.engine import Reading, TextLine, check_image

_HAN = r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
_SPACE_IN_HAN = re.compile(rf"(?<={_HAN}) (?={_HAN})")


class TesseractEngine:
    """The `tesseract` program, 5.0 or later, with its LSTM models.

    Args:
        languages: names of its models, the main one first, or one string of names joined by "+". Debian packages a
            model as `tesseract-ocr-LANGUAGE`.
        workers: processes that run at the same time, each with one thread: Tesseract is slower with more threads.
        program: the command.
    """

    def __init__(
        self, languages: Sequence[str] | str = ("chi_sim", "eng"), workers: int = 1, program: str = "tesseract"
    ):
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}.")
        if shutil.which(program) is None:
            packages = "tesseract-ocr tesseract-ocr-chi-sim"
            raise ImportError(f"There is no program {program}: install Tesseract (Debian: apt install {packages}).")
        languages = languages.split("+") if isinstance(languages, str) else languages
        self._program, self._languages, self._workers = program, tuple(languages), workers
        lines = self._run("--list-langs").splitlines()
        if missing := sorted(set(languages) - set(lines[1:])):
            package = f"tesseract-ocr-{missing[0].replace('_', '-')}"
            raise ImportError(f"Tesseract has no model {missing[0]} (Debian: apt install {package}).")
        folder = re.search(r'"(.*)"', lines[0])
        if folder is None:  # version 4 does not say where its models are
            raise ImportError(f"The program {program} does not name the folder of its models: install Tesseract 5.")
        self._models = Path(folder[1])

    def read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        # Each process reads many lines, for it loads the models first.
        shares = [lines[start :: self._workers] for start in range(min(self._workers, len(lines)))]
        with ThreadPoolExecutor(self._workers) as pool:
            readings = list(pool.map(self._read, shares))
        return [readings[i % len(shares)][i // len(shares)] for i in range(len(lines))]

    def _read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        words: list[list[dict[str, str]]] = [[] for _ in lines]
        for row in self._words(lines, segmentation=7):  # "a single text line"
            words[int(row["page_num"]) - 1].append(row)
        return [_join(row) for row in words]

    def find(self, image: np.ndarray) -> list[TextLine]:
        found: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in self._words([image], segmentation=11):  # "sparse text: as much as possible, in no order"
            found.setdefault(tuple(row[key] for key in ("block_num", "par_num", "line_num")), []).append(row)
        lines = []
        for words in found.values():
            boxes = np.array([[int(word[key]) for key in ("left", "top", "width", "height")] for word in words])
            (left, top), (right, bottom) = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
            quad = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
            text, score = _join(words)
            lines.append(TextLine(text, quad, score))
        return lines

    def describe(self) -> dict[str, Any]:
        return {
            "engine": "tesseract",
            "packages": {"tesseract": self._run("--version").split()[1]},
            "languages": list(self._languages),
            "models": hashes(self._models / f"{language}.traineddata" for language in self._languages),
        }

    def _words(self, images: Sequence[np.ndarray], segmentation: int) -> Iterator[dict[str, str]]:
        """One row of Tesseract's table for each word, in order; `page_num` counts the images from 1."""
        for image in images:
            check_image(image)
        with tempfile.TemporaryDirectory() as folder:
            pages = Path(folder) / "pages.txt"
            with pages.open("w", encoding="utf-8") as names:
                for i, image in enumerate(images):
                    Image.fromarray(np.ascontiguousarray(image)).save(f"{folder}/{i}.png", compress_level=1)
                    names.write(f"{folder}/{i}.png\n")
            options = ["-l", "+".join(self._languages), "--oem", "1", "--psm", str(segmentation), "--dpi", "300"]
            table = self._run(str(pages), "stdout", *options, "tsv")
        for row in csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["level"] == "5" and row["text"].strip():  # a word
                yield row

    def _run(self, *arguments: str) -> str:
        environment = os.environ | {"OMP_THREAD_LIMIT": "1"}
        done = subprocess.run([self._program, *arguments], capture_output=True, encoding="utf-8", env=environment)
        if done.returncode:
            raise RuntimeError(f"{self._program} failed: {' '.join(done.stderr.split())[-300:]}")
        return done.stdout


def _join(words: Sequence[dict[str, str]]) -> Reading:
    """Join words to a line; between Han characters Tesseract's spaces are left out."""
    text = _SPACE_IN_HAN.sub("", " ".join(word["text"] for word in words))
    scores = [float(word["conf"]) / 100 for word in words]
    return Reading(text, float(np.clip(np.mean(scores), 0, 1)) if text else 0.0)
