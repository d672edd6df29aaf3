"""Recipes: YAML to dataclasses, and every mistake named."""

import pytest

from tadisr.data_synthesis.degrade import Degradation
from tadisr.data_synthesis.layouts.typesetting import ADDED
from tadisr.data_synthesis.recipe import PasteStyle, Recipe, from_dict, load_recipe
from tadisr.data_synthesis.writing.shards import Job


def test_bundled_recipes():
    free, paper = load_recipe("free"), load_recipe("paper")
    assert free.backgrounds == [{"kind": "free"}] and free.rendered == 1
    assert [source["kind"] for source in paper.crops] == ["ctr", "bts", "textseg"]
    assert (paper.photos, paper.rendered, paper.paste) == (1, 0, PasteStyle(max_enlargement=1))
    assert (paper.enhancer, paper.filter.small) == (None, "drop")
    assert paper.paste.count == (1, 5) and paper.paste.long_edge == (0.15, 1.0)
    assert load_recipe("tiny").degradation != free.degradation


def test_nested_values_and_tuples(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("photos: 0.1\npaste: {count: [2, 3], feather: 1.5}\ndegradation: {scale: 2}\n")
    recipe = load_recipe(str(path))
    assert recipe.photos == 0.1 and recipe.paste.count == (2, 3) and recipe.paste.tries == 100
    assert recipe.degradation.scale == 2


def test_a_recipe_may_mix_degradations(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("degradation: wide\n")
    assert load_recipe(str(path)).degradation == Degradation.preset("wide")
    assert Job(load_recipe(str(path)), 2, 0, 64).describe()["recipe"]["degradation"]["parts"][0][0] == 0.62


def test_a_description_names_later_keys_where_they_are_used():
    """So a folder that was begun before them is gone on with."""
    text = Job(load_recipe("tiny"), 2, 0, 64).describe()["recipe"]["text"]
    assert text["product"] == 0.08 and not set(ADDED) & set(text)
    used = Job(from_dict(Recipe, {"text": {"dense": 0.5}}), 2, 0, 64).describe()["recipe"]["text"]
    assert used["dense"] == 0.5 and "interface" not in used


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("degradation: {preset: [mild]}", "No degradation is called"),
        ("degradation: {second_strength: a}", "mine.yaml: '>' not supported between"),
        ("1: 2\nphtos: 1", "mine.yaml: unknown keys 1; phtos; known are"),
        ("phtos: 1", r"mine.yaml: unknown keys phtos; known are backgrounds, "),
        ("paste: {cuont: 1}", r"mine.yaml.paste: unknown keys cuont; known are count, "),
        ("paste: 3", "mine.yaml.paste: expected keys and values, got 3"),
        ("- 1", "expected keys and values"),
        ("photos: 2", "photos is a share between 0 and 1, not 2"),
        ("rendered: 0.5", "need crops: name a source"),
        ("backgrounds: []", "need backgrounds"),
        ("corpora: {latin: 0.5}", "corpora are names with whole numbers above 0"),
        ("corpora: {}", "corpora are names with whole numbers"),
        ("corpora: [latin]", "corpora are names with whole numbers"),
        ("a: [", "mine.yaml is not YAML"),
        ("backgrounds: free", "backgrounds must be a list, not 'free'"),
        ("backgrounds: [{path: /x}]", 'A source is "KIND:PATH" or has a kind'),
        ("crops:", "crops must be a list, not None"),
        ("fonts: /usr/share/fonts", "fonts must be a list, not '/usr"),
        ("degradation:", "degradation must be a preset's name or map names to values; got None"),
        ("degradation: {second_strength: 0}", "second_strength and final_sinc_cutoff must be above 0"),
        ("paste: {count: 3}", r"paste.count must be \[low, high\] with 0 < low <= high, not 3"),
        ("paste: {count: [5, 1]}", r"paste.count must be .*, not \(5, 1\)"),
    ],
)
def test_mistakes(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(str(path))


def test_sources_as_text(tmp_path):
    recipe = from_dict(Recipe, {"backgrounds": ["folder:/photos", "free"]})
    assert recipe.backgrounds == [{"kind": "folder", "path": "/photos"}, {"kind": "free"}]


def test_no_such_recipe():
    with pytest.raises(FileNotFoundError, match="No recipe nothing: .*free, paper, tiny, tiny_lines, or name"):
        load_recipe("nothing")
    with pytest.raises(FileNotFoundError, match="No recipe gone.yaml"):
        load_recipe("gone.yaml")


def test_empty_is_the_default():
    assert from_dict(Recipe, {}) == Recipe()
