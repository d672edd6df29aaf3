"""JSON and YAML of users and strangers: values within bounds, or one line."""

import codecs
from itertools import pairwise

import pytest

from tadisr.io.structured import parse_json, read_json, read_yaml

NINES = "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghi"))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "with a byte order mark"])
def test_values(file, mark):
    file.write_bytes(mark + '{"é": [1, 2.5, null, true]}'.encode())
    assert read_json(file) == read_yaml(file) == {"é": [1, 2.5, None, True]}
    assert parse_json(file.read_bytes(), "it") == parse_json(file.read_text(encoding="utf-8"), "it") == read_json(file)


def test_aliases_and_merges_stay(file):
    file.write_text("base: &base {a: 1, b: 2}\nit:\n  <<: *base\n  b: 3\nagain: *base\n")
    assert read_yaml(file) == {"base": {"a": 1, "b": 2}, "it": {"a": 1, "b": 3}, "again": {"a": 1, "b": 2}}
    file.write_text("")
    assert read_yaml(file) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a: &a [{', '.join('xxxxxxxxx')}]\n{NINES}", "it holds more than 20000 values"),
        ("- 1\n" * 20_000, "it holds more than 20000 values"),
        ("a: &a [*a]", "a value contains itself"),
        ("#" * (1 << 18) + "\n", "more than 262144 bytes"),
        ("[" * 5000, "nested too deeply"),
        ("- " * 5000, "nested too deeply"),
        ("? " * 5000, "nested too deeply"),
        ("{a: " * 5000, "nested too deeply"),
        ("a: 1\nb: 2\na: 3\n", "a mapping has the key 'a' twice"),
        ("a: 9223372036854775808", "the number 9223372036854775808 ... is too large"),
        ("a: -0x" + "f" * 100_000, "is too large"),
        ("a: " + "59:" * 50_000 + "59", "is too large"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 2001-13-45", "month must be in 1..12"),
        ("a: !!timestamp b", "is not YAML"),
        ("a: !!bool b", "is not YAML"),
        ("a: [", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("? [a]\n: 1\n", "unhashable key"),
    ],
    ids=lambda text: text[:12].split("\n")[0],
)
def test_yaml_that_is_refused(file, text, message):
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_yaml(file)
    assert str(raised.value).startswith(str(file)) and "\n" not in str(raised.value) and len(str(raised.value)) < 600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON: Expecting value"),
        ('{"a": 1, "b": 2, "a": 3}', "it is not JSON: an object has the key 'a' twice"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "it is not JSON: Exceeds the limit"),
        ("{'a': 1}", "it is not JSON: "),
    ],
)
def test_json_that_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_json(text, "it")
    assert "\n" not in str(raised.value)


def test_other_encodings_and_no_file(file):
    file.write_bytes("a: é".encode("latin-1"))
    for read in (read_json, read_yaml):
        with pytest.raises(ValueError, match=r"file is not (JSON|YAML): it is not UTF-8 \(byte 3\)\."):
            read(file)
        with pytest.raises(FileNotFoundError):
            read(file.with_name("none"))
