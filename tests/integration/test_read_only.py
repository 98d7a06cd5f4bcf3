"""A folder that is read-only, for root too: one line that names it, from every verb that writes."""

import errno
import os
from pathlib import Path

import pytest

from tests.command import SMALL, TINY, ibd

COMMANDS = {
    "fit": ["fit", TINY, *SMALL, "output=ro/runs"],
    "compare": ["compare", "RUN", "images=2", "explainers=saliency", "metrics=properties", "--out", "ro/c"],
    "explain": ["explain", "RUN", "BIRD", "explainers=saliency", "--figure", "ro/e/e.png"],
    "predict": ["predict", "RUN", "BIRD", "--figure", "ro/p/p.png"],
    "export": ["export", "RUN", "ro/m/m.pt2"],
    "curve": ["curve", "RUN", "data.test_size=6", "--policies", "random", "--trials", "1", "--out", "ro/curve"],
    "data": ["data", TINY, "ro/d/d.png"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_one_line(command, trained, bird, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = Path.mkdir

    def refuse(path, *given, **options):
        if path.parts[0] == "ro":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        make(path, *given, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = ibd(*({"RUN": trained, "BIRD": bird}.get(each, each) for each in command)).late_mistake
    assert "cannot write" in message
    assert "'ro/" in message
    assert message.endswith("Read-only file system")
