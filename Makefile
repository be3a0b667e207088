# Each target sets itself up: a virtual environment in .venv, with the versions this project is tested with.
# PYTHON=python3.12 make test   uses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test check lint types layers format bench clean

quickstart: $(READY)  ## train the demo tasks from a generated corpus
	$(BIN)/mtcl demo data/demo
	$(BIN)/mtcl fit --config configs/demo.yaml --data.root data/demo

test: $(READY)  ## all tests
	$(BIN)/python -m pytest

check: lint types layers  ## what must hold before a change is handed over, beside the tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/python -m pytest tests/test_layers.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[offline,mine,dev]"
	touch $(READY)

bench: $(READY)  ## the figures of docs/performance.md; an hour or more
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m tests.benchmarks.throughput
	$(BIN)/python -m tests.benchmarks.throughput --data public --batch 32
	$(BIN)/python -m tests.benchmarks.ranks
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.scale

clean:
	rm -rf $(VENV) runs data .mypy_cache .ruff_cache .pytest_cache .hypothesis
