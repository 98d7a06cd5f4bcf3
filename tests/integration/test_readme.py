"""The commands and the Python of the README work as printed, on what the demo leaves."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.command import QUIET, ROOT, ibd
from tests.data_makers import make_concept_folder

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```\n\$ ibd ([^\n]+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
"""(arguments, what is printed)."""
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def demo(tmp_path):
    """A folder with the configs of a clone, and what a short demo leaves."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    small = ("trainer.max_epochs=1", "data.train_size=64", "data.val_size=40", "data.test_size=40")
    assert ibd("demo", "demo", *small, *QUIET).code == 0
    return tmp_path


def given(command):
    """Return the arguments of a command as a shell would."""
    words = [sorted(map(str, Path().glob(word))) or [word] for word in shlex.split(command)]
    return [each for word in words for each in word]


@pytest.mark.slow
def test_every_command_and_block_runs(demo):
    meant = {
        "DATA": make_concept_folder(demo / "DATA", train=2),
        "RUN": next((demo / "demo" / "runs").glob("*")),
        "FILE": demo / "configs" / "toybirds" / "tiny.yaml",
    }
    assert [command.split()[0] for command, _ in COMMANDS] == ["fit", "fit", "intervene", "compare"]
    for command, printed in COMMANDS:
        answer = ibd(*given(command), *(QUIET if command.startswith("fit") else ()))
        if printed.startswith("ibd: "):
            assert answer.mistake == printed.removeprefix("ibd: ").rstrip()
            continue
        assert answer.code == 0, (command, answer.err)
        first = printed.splitlines()[:1]  # of what was printed; the rest depends on the training
        assert not first or first[0] in answer.out + answer.err, (command, answer)
    for line in ("init DATA", "export RUN model.onnx --parts encode,edit,decode", "config FILE", "list"):
        assert f"`ibd {line}`" in README
        answer = ibd(*(meant.get(word, word) for word in line.split()))
        assert answer.code == 0, (line, answer.err)
    assert len(PYTHON) == 1
    for number, block in enumerate(PYTHON):
        exec(compile(block, f"README.md[{number}]", "exec"), {})


def test_what_the_readme_calls_is_there():
    targets = re.findall(r"^make (\S+)", README, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
