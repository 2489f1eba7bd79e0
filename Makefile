# Every target works on a bare machine: it makes $(VENV) and installs what it needs. `make help` lists them.
#
#   PYTHON=python3.12   the Python to build the environment with (3.11 or newer)
#   VENV=.venv          where the environment goes
#   TORCH=torch==2.13.0 what to install for torch on a machine without an NVIDIA driver (a CPU build)
#   PYTEST_ARGS=...     for pytest, of the core's tests only; those of integrations/tgi run as they are

SUITABLE := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
            $$p -c '$(SUITABLE)' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=

BIN := $(VENV)/bin
TGI_TEST := cd integrations/tgi && $(abspath $(BIN))/python -m pytest
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo setup test test-all test-slow lint bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.user ## a conversation under SSD, then an attack decoded with and without it
	$(BIN)/langchain-ssd demo

setup: $(VENV)/.user ## fetch and convert the default pair (once)
	$(BIN)/langchain-ssd setup

test: lint setup ## lint, types, walls, and every test that is neither slow nor needs a GPU
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	$(TGI_TEST)

test-all: lint setup $(VENV)/.clients ## the same with slow tests, a second model family, and GPU tests where there is one
	$(BIN)/python tests/fetch_gemma.py
	$(BIN)/python -m pytest -m "" $(PYTEST_ARGS)
	$(TGI_TEST) -m ""

test-slow: setup $(VENV)/.clients ## only what test-all adds to test, with a fifth of the fuzzing
	$(BIN)/python tests/fetch_gemma.py
	$(BIN)/python -m pytest -m "slow or gpu" $(PYTEST_ARGS)
	LANGCHAIN_SSD_FUZZ=2000 && export LANGCHAIN_SSD_FUZZ && $(TGI_TEST) -m slow

lint: $(VENV)/.dev ## ruff, mypy --strict, import walls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev setup ## side-by-side runs: a table, and JSON in benchmarks/results
	$(BIN)/python -m benchmarks

clean: ## remove the environment and what tools left (never the model cache)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf integrations/*/.pytest_cache integrations/*/.hypothesis integrations/*/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.venv:
	@$(if $(PYTHON),$(PYTHON),false) -c '$(SUITABLE)' || { \
	  echo "langchain-ssd needs Python 3.11 or newer: install it, or say which: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "this Python cannot make virtual environments: install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@touch $@

# Plain torch is several GB of CUDA libraries, which a machine without an NVIDIA driver has no use for.
$(VENV)/.torch: $(VENV)/.venv
	command -v nvidia-smi >/dev/null 2>&1 || $(PIP) '$(TORCH)'
	@touch $@

$(VENV)/.user: pyproject.toml | $(VENV)/.torch
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.user integrations/tgi/pyproject.toml
	$(PIP) -e '.[test,lint]' -e 'integrations/tgi[test]'
	@touch $@

$(VENV)/.clients: $(VENV)/.dev
	$(PIP) -e 'integrations/tgi[test,clients]'
	@touch $@
