"""What a terminal would obey is shown as a code; letters stay."""

import logging

import pytest

from ibd.app.streams import speaking
from ibd.printing import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", "a cat"),
        ("\x1b[31mcat\x07\x7f", "\\x1b[31mcat\\x07\\x7f"),
        ("cat\rdog\nowl\tx", "cat\\rdog\\nowl\\tx"),
        ("\x9b31m \x85 \u2028", "\\x9b31m \\x85 \\u2028"),
        ("dog\u202egod\u2067", "dog\\u202egod\\u2067"),
        ("נשר صقر 鳥 Grün █ − e\u0301 👩\u200d🔬 \\x1b", "נשר صقر 鳥 Grün █ − e\u0301 👩\u200d🔬 \\x1b"),  # noqa: RUF001
        ("b\udcff.png", "b\udcff.png"),  # a byte of a file's name, which the stream is asked about
    ],
)
def test_shown(text, expected):
    assert shown(text) == expected


def test_lines_of_our_own_stay_lines():
    assert shown("a\x1b\n\tb\r", keep="\n\t") == "a\\x1b\n\tb\\r"


def test_log_messages(capsys, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    with speaking():
        logging.getLogger("ibd.x").warning("a class %s", "\x1b[31mcat\u202e")
    assert capsys.readouterr().err == "a class \\x1b[31mcat\\u202e\n"
