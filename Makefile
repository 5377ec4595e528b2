# Two commands do everything on a fresh machine: `make benchmark` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SUITE  ?= quick

.PHONY: benchmark test test-all lint clean

$(BIN)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

benchmark: $(BIN)/.installed  ## run every planner over a suite (SUITE=quick or full) and write the report
	$(BIN)/python scripts/benchmark.py --suite $(SUITE)

lint: $(BIN)/.installed  ## ruff (lint, format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## lint, types and the default test suite
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint  ## everything, slow tests included
	$(BIN)/python -m pytest -n 2

clean:  ## remove what the other targets made, except results
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
