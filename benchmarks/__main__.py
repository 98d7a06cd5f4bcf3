"""``python -m benchmarks [NAME ...]``: run benchmarks, print their table, and write it down."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

from benchmarks import BENCHMARKS
from benchmarks.timing import HEADER, one_thread

RESULTS = Path(__file__).with_name("results.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for; each benchmark is a section of the results, which keep those that are not run."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--repetitions", type=int, default=14, help="rounds; medians are taken over them")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where to write; results.md by default")
    options = parser.parse_args(given)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark '{name}': there are {', '.join(BENCHMARKS)}")
    command = shlex.join(["python", "-m", "benchmarks", *given])
    for name in options.names or BENCHMARKS:
        module = importlib.import_module(f"benchmarks.{name}")
        with one_thread():
            rows: Sequence[object] = module.measure(options.repetitions)
        text = section(name, module.__doc__ or "", rows, command, getattr(module, "HEADER", HEADER))
        print(text, flush=True)
        write(options.output, name, text)


def section(name: str, title: str, rows: Sequence[object], command: str, header: str = HEADER) -> str:
    """Return a benchmark's part of the results, in Markdown."""
    machine = f"{date.today().isoformat()}, torch {torch.__version__.split('+')[0]}, one thread of {processor()}"
    return "\n".join([f"## {name}", "", title, "", f"{machine}: `{command}`", "", header, *map(str, rows), ""])


def write(path: Path, name: str, text: str) -> None:
    """Put a section into the results, in place of the one that is there."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = dict(re.findall(r"^(?=## (\w+)$)(.*?)(?=^## |\Z)", old, re.MULTILINE | re.DOTALL))
    sections[name] = f"{text}\n"
    ordered = [sections[benchmark] for benchmark in BENCHMARKS if benchmark in sections]
    path.write_text("\n".join([INTRODUCTION, *(section.strip() + "\n" for section in ordered)]), encoding="utf-8")


INTRODUCTION = """# Results

Written by `python -m benchmarks`. Each line is measured side by side in one run: both candidates in turns, in one
thread. The ratio is the median over the rounds of the ratio in each; the times are medians. CPU time is that of the
process alone, so that what else the machine does disturbs it little; the time by the clock stands beside it.
"""


def processor() -> str:
    """Return the name of the CPU."""
    try:
        line = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        line = None
    return line.group(1) if line else "an unknown CPU"


if __name__ == "__main__":
    main()
