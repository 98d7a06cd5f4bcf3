# Two commands set everything up:  make demo   and   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-minimum lint types bench clean

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

clean:
	rm -rf .venv .venv-minimum demo
