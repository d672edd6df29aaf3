"""Word lists for the pages that tadisr-tiny is trained on, from small dictionaries of the same form."""

import re
import sys

import pytest

from tadisr.data_synthesis.recipe import load_recipe
from tadisr.training.tiny import word_lists

NOUNS = """  1 This software and database is being provided to you, the LICENSEE, by Princeton University under
00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived to exist; "it was full of entities"
00001930 03 n 01 physical_entity 0 001 @ 00001740 n 0000 | an entity that has physical existence
"""
WORDS = "AT&T 3 nz\n城市 500 n\n铁路 300 n\n一龘 9 n\n的 318825 uj\n"


def run(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["word_lists.py", *map(str, argv)])
    word_lists.main()


def test_lines_are_made_of_the_dictionaries_words(tmp_path, monkeypatch):
    (tmp_path / "wordnet").mkdir()
    (tmp_path / "wordnet" / "data.noun").write_text(NOUNS)
    (tmp_path / "dict.txt").write_text(WORDS, encoding="utf-8")
    places = ("--wordnet", tmp_path / "wordnet", "--jieba", tmp_path / "dict.txt")
    for name in ("a", "b"):
        run(monkeypatch, "-o", tmp_path / name, "--num", 300, *places)
    english, chinese = ((tmp_path / "a" / f"{name}.txt").read_text(encoding="utf-8") for name in ("english", "chinese"))
    assert english == (tmp_path / "b" / "english.txt").read_text(encoding="utf-8")
    known = {word for line in NOUNS.splitlines()[1:] for word in re.findall("[a-z]+", line.split("|")[1])}
    words = {word.strip(".,!?:").lower() for word in english.split()}
    assert words == known and not any("LICENSEE" in line for line in english.splitlines())
    assert any(line.isupper() for line in english.splitlines())
    assert len(set(english.splitlines())) == len(english.splitlines())
    assert set(chinese) <= set("城市铁路的，、 。！\n") and "铁路" in chinese and "城市" in chinese


def test_a_dictionary_that_is_missing_is_named(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "-o", tmp_path, "--wordnet", tmp_path / "nowhere")
    assert "nowhere is not there: install Debian's wordnet-base" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny_words", "tiny_words_lines"])
def test_the_recipes_name_the_lists(name):
    recipe = load_recipe(f"training/tiny/recipes/{name}.yaml")
    assert {"data/corpora/english.txt", "data/corpora/chinese.txt"} < set(recipe.corpora)
