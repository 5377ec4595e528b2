# Two commands do everything on a fresh machine: `make benchmark` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RLLIB  := .venv-rllib
SUITE  ?= quick

.PHONY: benchmark bench docs learned testbed testbed-multi test test-all test-browser test-oldest test-rllib lint clean

# CPU builds by their full names: plain `torch` would bring gigabytes of CUDA on Linux, and PyPI's
# torchvision for Linux fits only that. Without an index that has both, torch alone, from a file.
build = $(1)==$(shell sed -n 's/^$(1)==//p' constraints.txt)$(if $(filter Linux,$(shell uname)),+cpu)
TORCH := $(call build,torch)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
define install_torch
$(1) -m pip install --quiet --retries 2 --extra-index-url $(TORCH_INDEX) $(TORCH) $(call build,torchvision) 2>/dev/null || \
	$(1) -m pip install --quiet $(TORCH) 2>/dev/null || \
	$(1) -m pip install --quiet --extra-index-url $(TORCH_INDEX) $(TORCH)
endef

$(BIN)/.installed: pyproject.toml constraints.txt scripts/mend_torchvision.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call install_torch,$(BIN)/python)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python scripts/mend_torchvision.py
	touch $@

# The oldest Gymnasium that pyproject.toml allows, beside the installed one: first on the path, it wins.
OLDEST     := $(shell sed -n 's/.*"gymnasium>=\([0-9.]*\),.*/\1/p' pyproject.toml)
OLDEST_DIR := $(VENV)/gymnasium-$(OLDEST)
WITH_OLDEST = PYTHONPATH=$(CURDIR)/$(OLDEST_DIR) $(BIN)/python
ENV_TESTS   = $(wildcard tests/test_env*.py tests/test_streaming.py tests/test_plan_view.py \
	tests/test_vector*.py tests/test_views*.py tests/test_adapter*.py)

$(OLDEST_DIR)/.installed: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(OLDEST_DIR) gymnasium==$(OLDEST)
	touch $@

benchmark: $(BIN)/.installed  ## every planner and trained agent over a suite (SUITE=quick or full), and the report
	$(BIN)/mjoa-gym benchmark --suite $(SUITE) --out results/$(SUITE) --more agents.learned_suite:beside \
		$(if $(filter quick,$(SUITE)),--pages README.md docs/results.md)

learned: $(BIN)/.installed  ## the trained agents beside their yardsticks, for the README (an hour)
	$(BIN)/python scripts/evaluate_learned.py --suite full --pages README.md docs/results.md

testbed: $(BIN)/.installed  ## real inferences on two processes against the simulator (needs two idle cores, 15 minutes)
	$(BIN)/python scripts/testbed.py --publish

testbed-multi: $(BIN)/.installed  ## real rounds of two to five UEs on one server against the simulator (two cores, 25 minutes)
	$(BIN)/python scripts/testbed_multi.py

PLANNERS = $(shell $(BIN)/python -c "from mjoa_gym.planners.registry import PLANNERS; print(*PLANNERS)")
AGENTS   = ppo-streaming dqn-streaming

bench: $(BIN)/.installed  ## planners and trained agents on the frozen benchmark, and the table (twenty minutes)
	for planner in $(PLANNERS); do \
		$(BIN)/mjoa-gym bench run $$planner -o results/bench/$$planner.json.gz || exit 1; done
	for agent in $(AGENTS); do \
		$(BIN)/mjoa-gym bench run $$agent=results/agents/$$agent-seed0 --track dynamic \
			-o results/bench/$$agent.json.gz || exit 1; done
	$(BIN)/mjoa-gym bench check results/bench/*.json.gz
	$(BIN)/mjoa-gym bench table results/bench/*.json.gz --out results/bench

# The variable silences an advertisement for the theme's successor, which is not stable yet.
docs: $(BIN)/.installed  ## the documentation site in build/site; a warning fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(BIN)/.installed  ## ruff (lint, format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The suite first: it shares out what is to be compiled (tests/conftest.py). `-rs` says why tests are skipped.
test: lint  ## lint, types and the default test suite
	$(BIN)/python -m pytest -n 2 -rs -m "not slow"
	$(MAKE) test-oldest

test-all: lint  ## everything, slow tests included
	$(BIN)/python -m pytest -n 2 -rs
	$(MAKE) test-oldest

CHROMIUM = command -v chromium && command -v chromedriver

test-browser: $(BIN)/.installed  ## the interactive timeline in a real browser, without a display
	@$(CHROMIUM) >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null; } || \
		{ echo "Install chromium and chromedriver first (Debian: apt-get install chromium chromium-driver)."; exit 1; }
	@$(CHROMIUM) >/dev/null || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium chromium-driver; }
	$(BIN)/python -m pytest -m browser

test-oldest: $(OLDEST_DIR)/.installed  ## the environments' tests with the oldest Gymnasium
	$(WITH_OLDEST) -c "import gymnasium as g; assert g.__version__ == '$(OLDEST)', g.__version__"
	$(WITH_OLDEST) -m pytest -n 2 -rs -m "not slow" -k "not every_scenario" $(ENV_TESTS)

$(RLLIB)/.installed: pyproject.toml constraints.txt
	test -x $(RLLIB)/bin/python || $(PYTHON) -m venv $(RLLIB)
	$(call install_torch,$(RLLIB)/bin/python)
	$(RLLIB)/bin/python -m pip install --quiet --editable '.[rllib,train]' pytest
	touch $@

test-rllib: $(RLLIB)/.installed  ## RLlib and Ray, in a virtual environment with the Gymnasium that it insists on
	$(RLLIB)/bin/python -m pytest tests/test_train_rllib.py tests/test_training.py -k "rllib or ray"

clean:  ## remove what the other targets made, except results
	rm -rf $(VENV) $(RLLIB) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
