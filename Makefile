# Two commands matter: `make train` and `make test`. Both start from a fresh clone and do only what is missing.
PYTHON ?= $(shell command -v python3.12 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
# The stamp names what the environment was made from, so that a changed pyproject.toml is installed anew.
STAMP  := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
CONFIG ?= configs/quickstart.toml

.DEFAULT_GOAL := help
.PHONY: help setup model train test test-vllm soak bench lint format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## create .venv and install everything (5 to 10 minutes, about 6 GB, most of it torch)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || \
	  { echo "RepoDojo needs Python 3.12 or newer: install it, or name it with 'make PYTHON=/path/to/python3.12'." >&2; exit 2; }
	@echo "==> installing RepoDojo into $(VENV) (5 to 10 minutes the first time, about 6 GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/.installed-* && touch $@

model: $(STAMP) ## fetch the embedded model and convert it once (93 MB)
	@echo "==> embedded model"
	@$(BIN)/python -m trainers.model.load

train: model ## train the embedded model on real repositories (at most 30 minutes on two cores)
	@echo "==> dojo train $(CONFIG)"
	@$(BIN)/dojo train $(CONFIG)

test: model ## the test suite (at most 12 minutes on two cores)
	@echo "==> pytest"
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 -m 'not slow' $(ARGS)

test-extras: model ## what needs DeepSpeed, TRL, mini-swe-agent, TensorBoard or wandb (an environment on top of .venv)
	@scripts/extras.sh $(BIN)/python .venv-extras
	@echo "==> pytest"
	@REPODOJO_REQUIRE=deepspeed,minisweagent,tensorboard,trl,wandb .venv-extras/bin/python -m pytest -q -m extra $(ARGS)

test-vllm: model ## the vLLM engine against a real server (Python 3.11; makes an environment of 3.5 GB once)
	@echo "==> vLLM"
	@$(BIN)/python -m benchmarks.vllm

soak: model ## full counts, load and chaos; writes a dated report under docs/reports/
	@$(BIN)/python -m benchmarks.soak $(ARGS)

bench: model ## speed, as ratios measured in one run
	@$(BIN)/python -m benchmarks.speed $(ARGS)

lint: $(STAMP) ## ruff, the strict type checker, the floor test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@$(BIN)/python -m pytest -q tests/test_floors.py

format: $(STAMP) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## remove the environment and caches of this clone (runs/ stays)
	rm -rf $(VENV) .venv-extras .pytest_cache .ruff_cache .hypothesis
