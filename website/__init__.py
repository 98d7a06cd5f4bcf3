"""What makes the pages of the documentation; `make docs` builds them, mkdocs.yml says how they are arranged."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
