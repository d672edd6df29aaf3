"""Word lists for the pages that tadisr-tiny is trained on, from small dictionaries of the same form."""

import re

import pytest

from tadisr.data_synthesis.recipe import load_recipe
from tadisr.training.tiny import word_lists

NOUNS = """  1 This software and database is being provided to you, the LICENSEE, by Princeton University under
00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived to exist; "it was full of entities"
00001930 03 n 01 physical_entity 0 001 @ 00001740 n 0000 | an entity that has physical existence
"""
WORDS = "AT&T 3 nz\n城市 500 n\n铁路 300 n\n一龘 9 n\n的 318825 uj\n"


def test_lines_are_made_of_the_dictionaries_words(tmp_path):
    (tmp_path / "wordnet").mkdir()
    (tmp_path / "wordnet" / "data.noun").write_text(NOUNS)
    (tmp_path / "dict.txt").write_text(WORDS, encoding="utf-8")
    places = ["--wordnet", str(tmp_path / "wordnet"), "--jieba", str(tmp_path / "dict.txt")]
    for name in ("a", "b"):
        word_lists.main(["-o", str(tmp_path / name), "--num", "300", *places])
    english, chinese = ((tmp_path / "a" / f"{name}.txt").read_text(encoding="utf-8") for name in ("english", "chinese"))
    assert english == (tmp_path / "b" / "english.txt").read_text(encoding="utf-8")
    known = {word for line in NOUNS.splitlines()[1:] for word in re.findall("[a-z]+", line.split("|")[1])}
    words = {word.strip(".,!?:").lower() for word in english.split()}
    assert words == known and not any("LICENSEE" in line for line in english.splitlines())
    assert any(line.isupper() for line in english.splitlines())
    assert len(set(english.splitlines())) == len(english.splitlines())
    assert set(chinese) <= set("城市铁路的，、 。！\n") and "铁路" in chinese and "城市" in chinese


def test_a_dictionary_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not there: install Debian's wordnet-base"):
        word_lists.main(["-o", str(tmp_path), "--wordnet", str(tmp_path / "nowhere")])


@pytest.mark.parametrize("name", ["tiny_words", "tiny_words_lines"])
def test_the_recipes_name_the_lists(name):
    recipe = load_recipe(f"training/tiny/recipes/{name}.yaml")
    assert {"data/corpora/english.txt", "data/corpora/chinese.txt"} < set(recipe.corpora)
