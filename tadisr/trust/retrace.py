"""Lines that are read surely in the input, drawn as they are read there, so that restoring does not lose them.

A reader that knows the language often reads a blurred line that the network restores wrongly. Where it is sure, the
line is drawn as it reads, as if a person had said so, and the network follows. What is drawn is a reading, and may be
wrong. Readings of the result are not drawn: they may be of strokes that the network has made up.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tadisr.lettering import can_draw
from tadisr.trust.check import RETRACED, CheckedLine, TrustReport

LEAST_SCORE = 0.95
"""Of the input's reading, where that of the result differs; it must also be at least as sure as that one."""


def surest(line: CheckedLine) -> str | None:
    """What a line is drawn as: what it reads before and after, else what it surely reads in the input, or None."""
    if line.reads_the_same:
        return line.output.text
    return line.input.text if line.input.score >= max(LEAST_SCORE, line.output.score) else None


def lines_to_draw(report: TrustReport) -> list[tuple[int, str]]:
    """The lines of a report to be drawn: numbers, from 0, and texts. What no installed face draws is left out."""
    texts = [(number, surest(line)) for number, line in enumerate(report.lines)]
    return [(number, text) for number, text in texts if text and text.strip() and can_draw(text)]


def with_retraced(report: TrustReport, drawn: Sequence[tuple[int, str]]) -> TrustReport:
    """A report whose drawn lines say so: the verdict RETRACED, and the reading of the input for the output's.

    Lines that read the same before and after keep their verdict.
    """
    lines = list(report.lines)
    for number, _ in drawn:
        if not (line := lines[number]).reads_the_same:
            lines[number] = replace(line, verdict=RETRACED, output=line.input)
    return replace(report, lines=lines)


def quads_of(report: TrustReport, drawn: Sequence[tuple[int, str]]) -> list[tuple[np.ndarray, str]]:
    """The drawn lines as `tadisr.lettering.draw_lines` takes them."""
    return [(np.array(report.lines[number].quad, np.float32), text) for number, text in drawn]
