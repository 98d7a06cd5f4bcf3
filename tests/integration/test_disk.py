"""A disk that is full amid a training: one line, the epochs before are kept, and the run goes on later."""

import sys

import pytest

from tests.command import SMALL, TINY, fitted, ibd, ibd_process, rows

WITHOUT_ROOM = ("bash", "-c", 'ulimit -f 8; exec "$@"', "-", sys.executable, "-m", "ibd.cli")
"""Files of more than 8 KiB cannot be written, as on a disk that is full but for that."""


def test_the_scores_are_said_where_the_run_is_read_only(trained, monkeypatch):
    """As root, whom no permission stops: there is a folder where the file should be."""
    kept = trained / "test.json"
    before = kept.read_bytes() if kept.exists() else None
    kept.unlink(missing_ok=True)
    kept.mkdir()
    with pytest.warns(UserWarning, match=r"test\.json' cannot be written \(Is a directory\)"):
        answer = ibd("test", trained, "data.test_size=12")
    kept.rmdir()
    if before is not None:
        kept.write_bytes(before)
    assert answer.code == 0
    assert "test/accuracy" in answer.out


@pytest.mark.slow
def test_the_disk_is_full_amid_a_training(tmp_path):
    run = fitted(TINY, *SMALL, f"output={tmp_path}", "trainer.max_epochs=1")
    answer = ibd_process("fit", f"resume={run}", "trainer.max_epochs=3", cwd=tmp_path, command=WITHOUT_ROOM)
    assert answer.late_mistake == (
        f"cannot write to '{run}' (File too large); it keeps its first 1 epochs (checkpoints/last.ckpt): "
        f"`ibd fit resume={run}` continues from there"
    )
    assert not list(run.rglob("*.tmp"))
    assert ibd("fit", f"resume={run}", "trainer.max_epochs=2").code == 0
    assert [row["epoch"] for row in rows(run) if row["epoch"]][-1] == "1"


@pytest.mark.slow
def test_the_disk_is_full_before_the_first_epoch_has_ended(tmp_path):
    answer = ibd_process("fit", TINY, *SMALL, "output=runs", cwd=tmp_path, command=WITHOUT_ROOM)
    assert answer.late_mistake.endswith("(File too large); it keeps no model: no epoch had been written")
