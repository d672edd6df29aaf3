"""What rendered text says, and where lines of it are broken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_fonts import write_font
from tadisr.data_synthesis.text.corpus import FileCorpus, common_hanzi, number, open_corpus
from tadisr.data_synthesis.text.fonts import Font, Fonts, discover_fonts
from tadisr.data_synthesis.text.wrapping import NO_LINE_START, clusters, cut, is_wide, wrap

BUILT_IN = ("latin", "chinese", "kana")
LETTERS = st.sampled_from([*"ab,. é汉字，。ー(9あ한", "नि"])
SOME_TEXT = st.lists(LETTERS, max_size=60).map("".join).filter(str.strip)


def rng(seed=0):
    return np.random.default_rng(seed)


def texts(name, count=300, max_chars=30):
    generator, corpus = rng(), open_corpus(name)
    return [corpus.text(generator, max_chars) for _ in range(count)]


@pytest.mark.parametrize("name", BUILT_IN)
@settings(deadline=None, derandomize=True, max_examples=40)
@given(seed=st.integers(0, 10**6), max_chars=st.integers(1, 40), lines=st.integers(1, 6))
def test_lines_have_the_wanted_length_and_follow_the_generator(name, seed, max_chars, lines):
    corpus = open_corpus(name)
    text, paragraph = corpus.text(rng(seed), max_chars), corpus.paragraph(rng(seed), lines, max_chars)
    assert len(paragraph) == lines
    for line in [text, *paragraph]:
        assert 1 <= len(line) <= max_chars and line == line.strip() and line.isprintable()
    assert open_corpus(name).text(rng(seed), max_chars) == text
    assert open_corpus(name).paragraph(rng(seed), lines, max_chars) == paragraph


def test_latin_lines_are_words_names_numbers_and_sentences_in_every_case():
    lines = texts("latin", 2000)
    assert any(t.isupper() and t.isalpha() for t in lines) and any(t.islower() and t.isalpha() for t in lines)
    for piece in ("@", "www.", "%", "/20", "é", "Ltd", "Exit", "."):
        assert any(piece in t for t in lines), piece
    assert sum(any(c.isdigit() for c in t) for t in lines) > 200
    assert len(set(lines)) > 1200
    running = " ".join(open_corpus("latin").paragraph(rng(), 20, 60))
    assert running[0].isupper() and 5 < running.count(".") < 60 and "," in running


def test_chinese_lines_are_phrases_hanzi_and_mixtures():
    lines = texts("chinese", 600)
    assert len({"出口", "入口", "营业中", "收银台", "合计", "地址：", "麻婆豆腐"} & set(texts("chinese", 6000))) > 4
    assert any("有限公司" in t for t in lines) and any("年" in t and "月" in t for t in lines)
    mixed = [t for t in lines if any(map(is_wide, t)) and any(c.isascii() and c.isalnum() for c in t)]
    assert 60 < len(mixed) < 300
    seen = "".join(lines)
    assert sum(seen.count(c) for c in "的一是不了人") > 3 * sum(seen.count(c) for c in "蚌舶炳鄙痹镣")
    assert len({c for c in "".join(texts("chinese", 3000)) if is_wide(c)}) > 2000
    running = "".join(open_corpus("chinese").paragraph(rng(), 12, 20))
    assert running.count("，") > 4 and running.count("。") > 2


def test_kana_lines_are_kana():
    seen = "".join(texts("kana"))
    assert set(seen) <= {chr(c) for c in range(0x3041, 0x3100)}
    assert any("ア" <= c <= "ン" for c in seen) and any("あ" <= c <= "ん" for c in seen)


def test_numbers_come_in_many_forms():
    forms = {"".join("0" if c.isdigit() else c for c in number(rng(seed))) for seed in range(400)}
    assert len(forms) > 60


def test_built_in_corpora_are_drawn_by_one_font_each():
    assert len(common_hanzi()) == len(set(common_hanzi())) == 3755
    fonts = discover_fonts()
    for name in BUILT_IN:
        if not fonts.covering(open_corpus(name).sample):
            continue  # nothing installed for this script: `open_corpus` says so, tested below
        undrawn = [t for t in texts(name, 300) if not fonts.covering(t)]
        assert not undrawn


@settings(deadline=None, derandomize=True, max_examples=200)
@given(text=SOME_TEXT, max_chars=st.integers(1, 20), seed=st.integers(0, 99))
def test_wrapping_loses_nothing_and_keeps_words_and_marks_whole(text, max_chars, seed):
    lines = wrap(text, max_chars)
    assert all(0 < len(line) <= max_chars and line == line.strip() for line in lines)
    if max_chars > 1:  # a mark may part from its letter only where a line has no room for both
        assert "".join(lines).replace(" ", "") == "".join(text.split())
        assert not any(line[0] == "\u093f" for line in lines)
    for word in text.split():
        if len(word) <= max_chars and not any(map(is_wide, word)):
            assert any(word in line for line in lines), word
    piece = cut(text, max_chars, rng(seed))
    assert 0 < len(piece) <= max(max_chars, 1) and (piece == text or piece in lines)


def test_no_line_begins_with_a_comma_or_a_closing_bracket():
    assert wrap("请先阅读说明，再使用。", 6) == ["请先阅读说", "明，再使用。"]
    for width in range(3, 12):
        assert not any(line[0] in NO_LINE_START for line in wrap("甲，乙（丙）。丁：戊；己！" * 4, width))
    assert wrap("one two, three", 8) == ["one two,", "three"]
    assert wrap("Съешь ещё этих булок", 11) == ["Съешь ещё", "этих булок"]
    assert wrap("unbreakable", 4) == ["unbr", "eaka", "ble"]
    assert clusters("नि한é") == ["नि", "한", "é"]


def test_a_text_file_is_a_corpus_in_any_script(tmp_path):
    file = tmp_path / "russian.txt"
    file.write_text("\ufeffСъешь ещё этих\tмягких  булок\r\n\n \x07 \nДа выпей чаю\x00\n", encoding="utf-8")
    corpus = open_corpus(file)
    assert corpus.lines == ["Съешь ещё этих мягких булок", "Да выпей чаю"] and corpus.name == "russian.txt"
    assert {corpus.text(rng(seed), 12) for seed in range(40)} <= {"Да выпей чаю", "Съешь ещё", "этих мягких", "булок"}
    assert {corpus.text(rng(seed), 80) for seed in range(40)} == set(corpus.lines)
    assert corpus.separator == " "
    assert len(corpus.paragraph(rng(), 5, 14)) == 5
    file.write_text("第一行，很长很长的一行字\n第二行", encoding="utf-8")
    chinese = open_corpus(str(file))
    assert chinese.separator == ""
    assert all(" " not in line for line in chinese.paragraph(rng(), 4, 5))


def test_lines_that_no_font_draws_are_left_out(tmp_path):
    write_font(tmp_path / "a.ttf", "abc汉", family="A")
    fonts = discover_fonts([tmp_path])
    file = tmp_path / "lines.txt"
    file.write_text("بب\nab 汉\nabz\nc\n", encoding="utf-8")
    assert open_corpus(file, fonts).lines == ["ab 汉", "c"]
    assert FileCorpus(file).lines == ["بب", "ab 汉", "abz", "c"]
    file.write_text("بب\n", encoding="utf-8")
    with pytest.raises(ValueError, match="draws Arabic"):
        open_corpus(file, fonts)


def test_bad_corpora_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="No corpus klingon: built in are latin, chinese, kana, or name a text"):
        open_corpus("klingon")
    with pytest.raises(FileNotFoundError, match="No corpus"):
        open_corpus(tmp_path)
    file = tmp_path / "bad.txt"
    for content in ("", "\n \n", "\ufeff"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"bad\.txt is empty: a corpus has one item a line"):
            open_corpus(file)
    file.write_bytes("文".encode("gbk"))
    with pytest.raises(ValueError, match=r"bad\.txt is not UTF-8 \(byte 0\)"):
        open_corpus(file)
    with pytest.raises(ValueError, match="No installed font draws Chinese .*install e.g. fonts-noto-cjk"):
        open_corpus("chinese", Fonts([Font("")]))


@pytest.mark.parametrize("name", BUILT_IN)
def test_there_must_be_room_for_a_character(name):
    corpus = open_corpus(name)
    for call in (lambda: corpus.text(rng(), 0), lambda: corpus.paragraph(rng(), 1, 0), lambda: wrap("a", 0)):
        with pytest.raises(ValueError, match="room for at least 1 character, not 0"):
            call()
    with pytest.raises(ValueError, match="at least 1 line, not 0"):
        corpus.paragraph(rng(), 0, 9)
