import logging

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from tadisr.io.messages import one_line, quiet, say, shortened


def test_one_line():
    assert one_line(ValueError(" a\n  b ")) == "a b"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line(ValueError("word " * 100))) <= 300
    assert one_line(ValueError("word " * 100), None) == ("word " * 100).strip()
    passed_on = (
        "Caught ValueError in worker 0.\nOriginal Traceback (most recent call last):\n ...\nValueError: no: page 7"
    )
    assert one_line(ValueError(passed_on)) == "no: page 7"


def test_lists_are_shortened():
    assert shortened([]) == "" and shortened("abc") == "a; b; c"
    assert shortened("abcde") == "a; b; c; and 2 more" and shortened("abcde", 1) == "a; and 4 more"


def test_quiet_gives_back_what_was_set():
    diffusers_logging.set_verbosity_info()
    transformers_logging.disable_progress_bar()
    with quiet():
        assert diffusers_logging.get_verbosity() == transformers_logging.get_verbosity() == logging.ERROR
        assert not diffusers_logging.is_progress_bar_enabled()
    assert diffusers_logging.get_verbosity() == logging.INFO and diffusers_logging.is_progress_bar_enabled()
    assert not transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_warning()
    transformers_logging.enable_progress_bar()


def test_nothing_unseen_changes_a_line(capsys):
    for hidden in ("\n", "\r", "\x1b[2J", "\u202e", "\u2066", "\u200f", "\u2028", "\x85", "\udcff"):
        say(f"a{hidden}b")
        shown = capsys.readouterr().err
        assert (
            shown.startswith("tadisr: a\\") and shown.isprintable() is False and shown.removesuffix("\n").isprintable()
        )
    say("café 出口 مرحبا 👩\u200d🔬")  # a joiner belongs to the picture
    assert capsys.readouterr().err == "tadisr: café 出口 مرحبا 👩\u200d🔬\n"
