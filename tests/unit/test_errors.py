"""What an error of the disk is called, whoever raises it."""

import difflib
import errno

import pytest

from ibd.errors import CheckpointError, ConfigError, check_once, did_you_mean, disk_trouble
from ibd.training.disk import telling_of_the_disk

FULL = OSError(errno.ENOSPC, "No space left on device")


def raised_amid(error, other):
    """Return an error that was raised while another one was handled, as when a file is closed."""
    try:
        try:
            raise error
        except type(error):
            raise other  # noqa: B904
    except type(other) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "'a/b': Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "'x': Read-only file system"),
        (raised_amid(FULL, RuntimeError("cannot close")), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "PyTorch could not write"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), None),
        (RuntimeError("shapes differ"), None),
        (ConnectionResetError(errno.ECONNRESET, "reset"), None),
    ],
)
def test_the_reason(error, reason):
    found = disk_trouble(error)
    assert found is None if reason is None else found.startswith(reason)


def test_what_a_run_keeps_on_a_full_disk(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    half = tmp_path / "checkpoints" / "last.tmp"
    half.write_bytes(b"half")
    with pytest.raises(CheckpointError) as error, telling_of_the_disk(tmp_path):
        raise FULL
    assert str(error.value) == (
        f"cannot write to '{tmp_path}' (No space left on device); it keeps no model: no epoch had been written"
    )
    assert not half.exists()


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(KeyError), telling_of_the_disk(tmp_path):
        raise KeyError("x")


def test_a_name_that_is_given_twice():
    check_once("policies", ["a", "b"])
    with pytest.raises(ConfigError, match="policies: 'a' is given twice"):
        check_once("policies", ["a", "b", "a"])


def test_near_names_among_very_many(monkeypatch):
    """As of the paths of all images: the few that are compared hold the right one, whichever half is misspelt."""
    names = [f"train/{c}/{i:06d}.png" for c in ("cat", "dog") for i in range(2_000)]
    compared, whole = [], difflib.get_close_matches
    monkeypatch.setattr(difflib, "get_close_matches", lambda g, n, k: compared.append(len(n)) or whole(g, n, k))
    assert "'train/dog/001234.png'" in did_you_mean("trian/dog/001234.png", names)
    assert "'train/dog/001234.png'" in did_you_mean("train/dog/001234.pgn", names)
    assert "'train/dog/001234.png'" in did_you_mean("train/dog/O01234.png", names)
    assert max(compared) <= 2000
