"""Settings from files and flags; mistakes in one line."""

from pathlib import Path

import pytest

from tadisr.training.engine.command_line import find_settings, mistakes_in_one_line, parse, read_with_extends
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.textdiff.line_config import CRNNConfig, TextDiffConfig
from tadisr.training.train_segmenter import SegmenterConfig


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"c\.yaml holds no `key: value` lines"),
        ("a: [\n", r"c\.yaml is not YAML"),
        ("learning_rte: 1\n", r"c\.yaml: unknown keys learning_rte"),
        ("seed:\n", r"c\.yaml: seed must have a value"),
        ("extends: c.yaml\n", r"c\.yaml extends itself"),
        ("extends: [c.yaml]\n", r"c\.yaml: extends names a file, not \['c\.yaml'\]"),
        ("1: 2\nb: 3\n", r"c\.yaml: unknown keys 1, b"),
        ("train_batch_size: [1, 2]\n", "unrecognized arguments|not used by the HfArgumentParser"),
        ("train_batch_size: {a: 1}\n", "argument --train_batch_size.*: invalid int value"),
        ("extends: nowhere.yaml\n", r"No config file .*nowhere\.yaml"),
        ("train_batch_size: 0\n", "train_batch_size must be at least 1, not 0"),
    ],
)
def test_files_that_cannot_be(tmp_path, text, message):
    (file := tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SystemExit, match=message) as stopped:
        parse(["--config", str(file)], CRNNConfig)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--config"], "--config needs a file"), (["--config", "nowhere.yaml"], "No config file nowhere.yaml")],
)
def test_command_lines_that_cannot_be(words, message):
    with pytest.raises(SystemExit, match=message):
        parse(words, CRNNConfig)


def test_flags_go_over_the_file_and_the_file_over_another(tmp_path):
    (tmp_path / "base.yaml").write_text("train_data_dir: [a, b]\nhidden: 8\nseed: 5\nmixed_precision: no\n")
    (file := tmp_path / "c.yaml").write_text("extends: base.yaml\nhidden: 9\nlearning_rate: 1.0e-3\nema_decay: null\n")
    config = parse(["--config", str(file), "--learning_rate=2e-3"], CRNNConfig)
    assert (config.learning_rate, config.train_data_dir, config.ema_decay) == (2e-3, ["a", "b"], None)
    assert (config.hidden, config.seed, config.mixed_precision) == (9, 5, "no")


def test_objects_are_changed_value_by_value(tmp_path):
    (tmp_path / "one.json").write_text('{"vae": {"a": 1, "b": 2}, "unet": {"c": 3}}')
    (tmp_path / "two.json").write_text('{"extends": "one.json", "vae": {"b": 4}, "prompt": {"d": 5}}')
    checked = []
    merged = read_with_extends(tmp_path / "two.json", lambda path, values: checked.append((path.name, list(values))))
    assert merged == {"vae": {"a": 1, "b": 4}, "unet": {"c": 3}, "prompt": {"d": 5}}
    assert checked == [("one.json", ["vae", "unet"]), ("two.json", ["vae", "prompt"])]


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, ImportError])
def test_mistakes_end_with_one_line(kind):
    with pytest.raises(SystemExit, match="^two lines$"), mistakes_in_one_line():
        raise kind("two\nlines")


def test_files_that_extend_each_other(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(SystemExit, match=r"b\.yaml extends itself"):
        parse(["--config", str(tmp_path / "a.yaml")], CRNNConfig)


@pytest.mark.parametrize(
    ("kind", "name", "file"),
    [
        (TrainConfig, "tiny", "base_config"),
        (TrainConfig, "wo_jsd", "base_config"),  # in the file that it extends
        (TrainConfig, "tiny_wide", "base_config"),
        (SegmenterConfig, "segmenter_tiny", "photo_list"),
        (TextDiffConfig, "textdiff/tiny", None),
        (CRNNConfig, "textdiff/crnn_tiny", None),
    ],
)
def test_bundled_settings_are_found_from_anywhere(tmp_path, monkeypatch, kind, name, file):
    monkeypatch.chdir(tmp_path)
    config = parse(["--config", name, "--seed", "7"], kind)
    assert config.seed == 7 and (file is None or Path(getattr(config, file)).is_file())
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(
        "seed: 3\ntrain_data_dir: [own]\nbase_config: b\n" if file == "base_config" else "seed: 3"
    )
    assert find_settings(name, kind) == Path(name), "a file goes before a bundled name"


def test_a_name_that_nothing_bears_gets_those_of_this_script():
    with pytest.raises(
        SystemExit, match=r"No config file tinny: .* bundled one of .*paper_kolors.*tiny_wide"
    ) as stopped:
        parse(["--config", "tinny"], TrainConfig)
    assert "segmenter" not in str(stopped.value) and "recipes" not in str(stopped.value)
    with pytest.raises(SystemExit, match=r"No config file tiny: .* bundled one of textdiff/"):
        parse(["--config", "tiny"], TextDiffConfig)


def test_files_beside_the_settings_go_before_those_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "c.yaml").write_text("base_config: b.json\ntrain_data_dir: [d]\n")
    (tmp_path / "b.json").touch()
    words = ["--config", "settings/c.yaml"]
    assert parse(words, TrainConfig).base_config == "b.json"
    (tmp_path / "settings" / "b.json").touch()
    assert parse(words, TrainConfig).base_config == str(Path("settings/b.json"))
    assert parse([*words, "--base_config", "b.json"], TrainConfig).base_config == "b.json"
