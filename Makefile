# Each target sets itself up: a virtual environment in .venv, with the versions this project is tested with.
# PYTHON=python3.12 make test   uses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

TABLES = $(shell grep -rl --include=*.md '\[\[\[cog' docs README.md)
TIMED = $(shell grep -l "mark\.timed" tests/*.py)
# Tests start many processes, which read compiled modules even where the environment asks Python not to write them.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: quickstart test quick nightly check lint types layers tables compare-tables docs format bench results clean

quickstart: $(VENV)/.offline  ## train the demo tasks from a generated corpus
	$(BIN)/mtcl demo data/demo
	$(BIN)/mtcl fit --config configs/demo.yaml --data.root data/demo

test: $(VENV)/.dev  ## every test but the nightly ones, two at a time; those that measure time by themselves
	$(PYTEST) -n 2 -m "not nightly and not timed"
	$(PYTEST) -m "timed and not nightly" $(TIMED)

quick: $(VENV)/.dev  ## the tests that start no process and run no whole command, in three minutes
	$(PYTEST) -n 2 -m "not process and not command and not nightly and not timed"

nightly: $(VENV)/.dev  ## all tests: kills, nodes, whole combinations too; ends with the 50 slowest
	MTCL_FORK=0 MTCL_KILLS=20 MTCL_CASES=all $(PYTEST) -n 2 -m "not timed" --durations=50
	$(PYTEST) -m timed $(TIMED)

check: lint types layers compare-tables  ## what must pass before a change is handed over, besides the tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_layers.py

compare-tables: $(VENV)/.dev
	$(BIN)/python -m cogapp --check $(TABLES)

tables: $(VENV)/.dev  ## write the tables of the documentation again
	$(BIN)/python -m cogapp -r $(TABLES)

docs: $(VENV)/.docs  ## the documentation as a site, in build/docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.offline: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[offline]"
	touch $@

$(VENV)/.dev: $(VENV)/.offline
	$(INSTALL) ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.offline
	$(INSTALL) ".[docs]"
	touch $@

bench: $(VENV)/.dev  ## the figures of docs/performance.md; an hour or more
	$(BIN)/python -m tests.benchmarks.throughput
	$(BIN)/python -m tests.benchmarks.throughput --data public --batch 32
	$(BIN)/python -m tests.benchmarks.ranks
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.scale

results: $(VENV)/.dev  ## what docs/results.md and docs/results/ report (but one-seed tables), from the data sets under MTCL_DATA; hours, continues after a kill
	$(BIN)/python -m tests.benchmarks.results runs/results

clean:
	rm -rf $(VENV) build runs studies data .mypy_cache .ruff_cache .pytest_cache .hypothesis
