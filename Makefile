# Two commands set everything up:  make demo   and   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow browser test-minimum lint types bench docs rooms notebooks dist clean

# The environment is made anew when the dependencies change. VENV=... puts it elsewhere.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed  ## train on the built-in birds, intervene, compare explanations, write the report
	$(BIN)/ibd demo demo

# Two processes with one thread each: tiny models gain nothing from more threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

test: $(VENV)/.installed  ## the quick tests
	$(PYTEST)

test-slow: $(VENV)/.installed  ## the long ones
	$(PYTEST) -m slow

browser: $(VENV)/.installed  ## a Chromium for the tests of pages, which are skipped without one
	command -v chromium || $(BIN)/playwright install --with-deps chromium || \
		{ apt-get update --quiet && apt-get install --quiet --yes chromium; }

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

bench: $(VENV)/.installed  ## the figures of the speed table in docs/results.md
	$(BIN)/python -m benchmarks

# The lowest versions that pyproject.toml admits, in an environment of their own.
.venv-minimum/.installed: pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-minimum.txt --editable ".[dev]"
	touch $@

test-minimum: .venv-minimum/.installed
	OMP_NUM_THREADS=1 .venv-minimum/bin/python -m pytest -q -n 2 --dist worksteal

# What builds pages and packages, in an environment of its own: the code is read and not imported, so PyTorch is not needed.
DOCS_VENV ?= .venv-docs
EXTRAS := import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
$(DOCS_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(PYTHON) -c '$(EXTRAS); print(*extras["docs"], *extras["release"], sep="\n")' > $(DOCS_VENV)/requirements.txt
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--requirement $(DOCS_VENV)/requirements.txt
	touch $@

# Without --quiet, which would keep warnings from --strict.
docs: $(DOCS_VENV)/.installed  ## the site; see build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict

rooms: $(VENV)/.installed  ## the picture of docs/architecture.md, from the code
	$(BIN)/python -m website.rooms

notebooks: $(VENV)/.installed  ## run the notebooks, and write what they show into docs/notebooks
	$(BIN)/python -m website.notebooks

dist: $(DOCS_VENV)/.installed  ## the wheel and the source archive, checked, in dist/
	rm -rf dist
	$(DOCS_VENV)/bin/python -m build --outdir dist .
	$(DOCS_VENV)/bin/python -m twine check --strict dist/*

clean:
	rm -rf .venv .venv-minimum .venv-docs demo build dist
