"""Lines that are read surely, drawn as they are read: their strokes become what the reading says.

A reader that knows the language often reads a line that the network restores wrongly. Where it is sure, the line is
drawn as it reads, as if a person had said so, and the network follows. What is drawn is a reading, and may be wrong.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tadisr.lettering import can_draw
from tadisr.trust.check import AGREE, RETRACED, CheckedLine, TrustReport

LEAST_SCORE = 0.9
"""Of the surer reading, where the readings of the input and of the result differ."""


def surest(line: CheckedLine) -> str | None:
    """What a line is drawn as: what it reads before and after, else the surer reading; None where none is sure."""
    if line.verdict == AGREE:
        return line.output.text
    reading = max(line.output, line.input, key=lambda reading: reading.score)
    return reading.text if reading.score >= LEAST_SCORE and reading.text.strip() else None


def lines_to_draw(report: TrustReport) -> list[tuple[int, str]]:
    """The lines of a report to be drawn: numbers, from 0, and texts. What no installed face draws is left out."""
    texts = [(number, surest(line)) for number, line in enumerate(report.lines)]
    return [(number, text) for number, text in texts if text and text.strip() and can_draw(text)]


def with_retraced(report: TrustReport, drawn: Sequence[tuple[int, str]]) -> TrustReport:
    """A report whose drawn lines say so: the verdict RETRACED, and as a reading of the output what was drawn.

    Lines that read the same before and after agree as before.
    """
    lines = list(report.lines)
    for number, text in drawn:
        line = lines[number]
        if line.verdict == AGREE:
            continue
        score = max(reading.score for reading in (line.input, line.output) if reading.text == text)
        lines[number] = replace(line, verdict=RETRACED, output=line.output._replace(text=text, score=score))
    return replace(report, lines=lines)


def quads_of(report: TrustReport, drawn: Sequence[tuple[int, str]]) -> list[tuple[np.ndarray, str]]:
    """The drawn lines as `tadisr.lettering.draw_lines` takes them."""
    return [(np.array(report.lines[number].quad, np.float32), text) for number, text in drawn]
