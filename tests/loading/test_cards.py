"""Model cards. What those of saved pipelines say on the Hub is tested in `test_hub.py`."""

import re

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from helpers import tiny
from tadisr.loading.cards import front_matter, license_in, snippet, write_card
from tadisr.weights import BUNDLED

BUNDLED_CARDS = sorted(BUNDLED.glob("*/README.md"))


def read(text):
    return ModelCard(text).data.to_dict()


@pytest.mark.parametrize("path", BUNDLED_CARDS, ids=lambda path: path.parent.name)
def test_bundled_cards_say_what_the_hub_reads(path):
    data = read(path.read_text(encoding="utf-8"))
    assert data["license"] == "apache-2.0" and data["pipeline_tag"] and "tadisr" in data["tags"]
    is_pipeline = (path.parent / "model_index.json").is_file()
    # Else the Hub would show code with DiffusionPipeline for what is none.
    assert data["library_name"] == ("diffusers" if is_pipeline else "tadisr")
    assert not is_pipeline or {"psnr", "ssim", "ocr_accuracy"} <= {*data["metrics"]}


@pytest.mark.parametrize("name", ["tadisr-tiny", "textdiff-tiny"])
def test_the_code_at_the_top_of_bundled_cards_works(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for picture in ("photo.png", "line.png"):
        Image.new("RGB", (24, 16), "gray").save(picture)
    card = (BUNDLED / name / "README.md").read_text(encoding="utf-8")
    title, code = re.search(r"^# (.*?)$.*?```python\n(.*?)```", card, re.DOTALL | re.MULTILINE).groups()
    assert title == name
    exec(code, {})
    assert Image.open("sharp.png").size[0] > 24


def test_what_is_not_on_the_hub_is_not_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "base").mkdir(parents=True)
    for base in (None, "models/base", str(tmp_path), "base"):
        assert not {"base_model", "base_model_relation"} & read(front_matter(base_model=base)).keys()
    data = read(front_matter(base_model="user/base", datasets=["user/ftsr", "models/base", "data"]))
    assert (data["base_model"], data["base_model_relation"], data["datasets"]) == (
        "user/base", "adapter", ["user/ftsr"],
    )  # fmt: skip
    assert not {"license", "metrics", "model-index"} & data.keys()


def test_a_licence_is_handed_on(tmp_path):
    terms = {"license": "other", "license_name": "research-use", "license_link": "https://example.org/terms"}
    write_card(tmp_path / "one", "user/one", "TADiSRPipeline", "user/base", terms)
    assert license_in(tmp_path / "one") == terms
    assert license_in(tmp_path) is None
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert license_in(tmp_path) is None
    before = (tmp_path / "one" / "README.md").read_text()
    write_card(tmp_path / "one", "user/other", "TADiSRPipeline")
    assert (tmp_path / "one" / "README.md").read_text() == before, "a card that is there stays"
    assert "an adapter for user/base" in before and snippet("user/one") in before


def test_saving_writes_a_card_and_keeps_one(tmp_path):
    pipe = tiny.lean()
    pipe.save_pretrained(tmp_path / "model")
    card = tmp_path / "model" / "README.md"
    assert 'from_pretrained("model")' in card.read_text()
    card.write_text("---\nlicense: mit\n---\nmine")
    again = type(pipe).from_pretrained(tmp_path / "model")
    again.save_pretrained(tmp_path / "model")
    assert card.read_text() == "---\nlicense: mit\n---\nmine"
    again.save_pretrained(tmp_path / "other")
    assert license_in(tmp_path / "other") == {"license": "mit"}


def test_an_adapter_hands_on_its_licence(tmp_path):
    """A converted checkpoint's is for research alone."""
    base = tiny.sd(tmp_path)
    base.save_pretrained(tmp_path / "base")
    pipe = tiny.on_base(base, base_model=str(tmp_path / "base"))
    terms = {"license": "other", "license_name": "research-use", "license_link": "https://example.org/terms"}
    write_card(tmp_path / "adapter", "user/adapter", "TADiSRPipeline", license=terms)
    pipe.save_pretrained(tmp_path / "adapter")
    type(pipe).from_pretrained(tmp_path / "adapter").save_pretrained(tmp_path / "again")
    assert license_in(tmp_path / "again") == terms


def test_a_class_of_somebody_elses_is_saved_too(tmp_path):
    """Without the programs: plain diffusers could not find the class."""
    pipe = tiny.lean()
    other = type("OtherPipeline", (type(pipe),), {})(**pipe.components)
    other.save_pretrained(tmp_path)
    assert (tmp_path / "model_index.json").is_file() and not [*tmp_path.rglob("*.py")]
