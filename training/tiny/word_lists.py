"""Lines of text for training pages: explanations from an English dictionary, and Chinese words.

    python training/tiny/word_lists.py -o data/corpora

They are made from Debian's packages wordnet-base (WordNet's licence) and python3-jieba (MIT). english.txt and
chinese.txt are `corpora` of training/tiny/recipes/tiny_words.yaml. The built-in corpora have some thousand words, which
a network that sees a million crops learns by heart.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tadisr.data_synthesis.text.corpus import common_hanzi
from tadisr.io.atomic import write_atomically
from tadisr.training.engine.command_line import mistakes_in_one_line

WORDNET = Path("/usr/share/wordnet")
JIEBA = Path("/usr/lib/python3/dist-packages/jieba/dict.txt")


def english(folder: Path, count: int, rng: np.random.Generator) -> Iterator[str]:
    """Pieces of 1 to 12 words of WordNet's explanations and examples.

    They are as they are, capitalised or in capitals, with and without a full stop.
    """
    files = (file.read_text(encoding="utf-8") for file in sorted(folder.glob("data.*")))
    lines = (line.split(" | ", 1)[1] for file in files for line in file.splitlines() if " | " in line)
    parts = (" ".join(part.split()) for line in lines for part in re.split(r'[;"]', line))
    texts = list(dict.fromkeys(part for part in parts if len(part) > 3))
    for number in rng.integers(len(texts), size=count):
        words = texts[number].split()
        length = int(rng.integers(1, 13))
        start = int(rng.integers(max(1, len(words) - length + 1)))
        line = " ".join(words[start : start + length])
        case = rng.random()
        if case < 0.2:
            line = line.upper()
        elif case < 0.4:
            line = " ".join(word[:1].upper() + word[1:] for word in line.split())
        elif case < 0.7:
            line = line[:1].upper() + line[1:] + (".,!?:"[rng.integers(5)] if case < 0.6 else "")
        yield line


def chinese(dictionary: Path, count: int, rng: np.random.Generator) -> Iterator[str]:
    """One to five words in common hanzi of a dictionary with frequencies. Rare words come more often than in texts."""
    entries = (line.split()[:2] for line in dictionary.read_text(encoding="utf-8").splitlines())
    common = set(common_hanzi())
    frequencies = {word: int(frequency) for word, frequency in entries if common.issuperset(word)}
    words, shares = list(frequencies), np.sqrt([frequency + 1.0 for frequency in frequencies.values()])
    picks = rng.choice(len(words), size=(count, 5), p=shares / shares.sum())
    for row, length in zip(picks, rng.integers(1, 6, size=count), strict=True):
        marks = rng.choice(["", "", "", "", "，", "、", " "], size=length)
        marks[-1] = rng.choice(["", "", "", "。", "！"])
        yield "".join(words[number] + mark for number, mark in zip(row, marks, strict=False))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make lists of English and Chinese lines of text.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--num", type=int, default=60_000, help="lines of each (default: %(default)s)")
    parser.add_argument("--wordnet", type=Path, default=WORDNET, help="folder of data.noun etc. (default: %(default)s)")
    parser.add_argument("--jieba", type=Path, default=JIEBA, help="dict.txt (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    for path, package in ((args.wordnet, "wordnet-base"), (args.jieba, "python3-jieba")):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: install Debian's {package}.")
    for name, lines in (
        ("english", english(args.wordnet, args.num, np.random.default_rng([args.seed, 0]))),
        ("chinese", chinese(args.jieba, args.num, np.random.default_rng([args.seed, 1]))),
    ):
        write_atomically(args.output / f"{name}.txt", "\n".join(dict.fromkeys(lines)) + "\n")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
