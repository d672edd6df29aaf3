"""Progress where stderr is no terminal: a line for each tenth of the work."""

import time

from tadisr.io.progress import Bars


def test_a_line_for_each_tenth(capsys):
    with Bars() as bars:
        bars.set("pages", 0, None)
        for done in range(101):
            bars.set("pages", done, 100)
        bars.set("photos", 1.5, 3)
        bars.set("hidden", 1, 1, line=False)
        bars.line("one more")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:10] == [f"tadisr: pages: {done} of 100" for done in range(10, 101, 10)]
    assert lines[10:] == ["tadisr: photos: 1 of 3", "tadisr: one more"]


def test_pauses(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Bars(pause=60) as bars:
        for done in range(101):
            now[0] += 10
            bars.set("tiles", done, 100)
        bars.remove("tiles")
        now[0] += 100
        bars.set("tiles", 1, 10)
        bars.set("tiles", 2, 10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tadisr: tiles: 10 of 100" and len(lines) == 11 and lines[-1] == "tadisr: tiles: 1 of 10"


def test_quiet(capsys):
    with Bars(quiet=True) as bars:
        bars.set("tiles", 5, 10)
        bars.line("a line")
        bars.remove("tiles")
    assert capsys.readouterr().err == ""
