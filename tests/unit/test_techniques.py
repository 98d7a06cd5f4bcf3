import importlib
import re
from pathlib import Path

import pytest

from ibd.cli import VERBS
from ibd.registry import names
from ibd.techniques import TECHNIQUES

DOCS = Path(__file__).parents[2] / "docs"


def test_every_name_is_said_once():
    names = [technique.name for technique in TECHNIQUES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.name)
def test_a_technique_is_where_it_is_said_to_be(technique):
    module, _, name = technique.place.partition(":")
    assert getattr(importlib.import_module(module), name).__doc__
    assert (DOCS / technique.page).is_file()
    if technique.command:
        program, verb, *_ = technique.command.split()
        assert (program, verb in VERBS) == ("ibd", True)


def test_the_page_of_techniques_names_them_all():
    page = (DOCS / "seeds.md").read_text(encoding="utf-8")
    words = set(re.split(r"[^\w+]+", page))
    shown = {
        technique.command.split()[1] if technique.command else technique.place.rpartition(":")[2]
        for technique in TECHNIQUES
    }
    missing = {name for name in {*shown, *names("explainers"), *names("models")} if name not in words}
    assert missing <= {"intrinsic", "baseline"}
