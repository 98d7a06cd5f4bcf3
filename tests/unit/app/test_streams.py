"""Everything can be printed everywhere, and a full disk is one line."""

import io
import sys
from pathlib import Path

import pytest

from ibd.app.streams import speaking
from ibd.cli import main


def printed(monkeypatch, text, encoding, errors="strict"):
    """Return the bytes that `print(text)` becomes on a stream."""
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding=encoding, errors=errors))
    with speaking():
        print(text)  # noqa: T201
    return file.getvalue()


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("ascii", "██░ ± Grün", b"##- +- Gr\\xfcn\n"),
        ("cp1252", "██░ ± Grün", b"##- \xb1 Gr\xfcn\n"),
        ("utf-8", "██░ ± Grün", "██░ ± Grün\n".encode()),
        ("ascii", "鳥 →", b"\\u9ce5 ->\n"),
        ("utf-8", "b\udcff.png", b"b\\udcff.png\n"),  # the name of a file that is no UTF-8
    ],
)
def test_what_an_encoding_has_not_is_said_in_other_words(monkeypatch, encoding, text, expected):
    assert printed(monkeypatch, text, encoding) == expected


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", "█ 鳥 b".encode() + b"\xff.png\n"), ("ascii", b"# \\u9ce5 b\xff.png\n")]
)
def test_a_stream_that_keeps_the_bytes_of_a_name_goes_on_doing_so(monkeypatch, encoding, expected):
    assert printed(monkeypatch, "█ 鳥 b\udcff.png", encoding, "surrogateescape") == expected


def test_a_full_disk_behind_standard_output(monkeypatch, capsys):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["list", "models"]) == 2
        monkeypatch.undo()
    assert capsys.readouterr().err == "ibd: cannot read or write No space left on device\n"
