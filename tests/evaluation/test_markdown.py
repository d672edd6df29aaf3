"""report.md: names from outside are shown as they are, whatever Markdown or a terminal would make of them."""

import pytest

from helpers.report_sample import report
from tadisr.evaluation.markdown import main_table, plain, trust_table


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tadisr-tiny_2", "tadisr-tiny_2"),  # underscores within words are no emphasis
        ("a|b\nc", r"a\|b\\nc"),
        ("# set", r"\# set"),
        ("_a_ **b** `c`", r"\_a\_ \*\*b\*\* \`c\`"),
        ("[x](http://y)<img src=z>", r"\[x\](http://y)\<img src=z\>"),
        ("a\u202eb\x1b[2J", r"a\\u202eb\\x1b\[2J"),
    ],
)
def test_plain(name, shown):
    assert plain(name) == shown


def test_a_hostile_name_adds_no_row_and_no_cell():
    values = report() | {"anchors": {"lr": "bicubic", "hr": "hr"}}
    usual = main_table(values).splitlines()
    values["methods"] = {("x|y\n| z" if name == "sharp" else name): row for name, row in values["methods"].items()}
    rows = main_table(values).splitlines()
    assert len(rows) == len(usual) > 4
    assert [row.replace(r"\|", "").count("|") for row in rows] == [row.count("|") for row in usual]


def test_what_a_method_changes_comes_first():
    head, _, *rows = main_table(report() | {"anchors": {"lr": "bicubic", "hr": "hr"}}).splitlines()
    assert head.startswith("| method | OCR-A against LR [95 %] | PSNR ↑ |")
    assert [row.split(" | ")[1] for row in rows] == ["–", "-0.200 [–, –]", "–", "–"]


def test_lines_called_fine():
    values = report()
    assert trust_table(values) == "No line of a restored image was compared with a text."
    values["methods"]["sharp"]["trust"] = {
        "truth": "annotation", "fine": 20, "right": 0.95, "interval": [0.9, 1.0], "to_check": 0, "wrong": None,
        "sure_score": 0.97,
        "also_read_by": {"tesseract": {"fine": 9, "right": 1.0}},
    }  # fmt: skip
    assert trust_table(values).splitlines()[2:] == [
        "| sharp | 20 | 95.0 % [90.0 %, 100.0 %] | 0 | – | 0.970 |",
        "| read so by tesseract, too | 9 | 100.0 % | – | – | – |",
    ]
