# Everything is installed into .venv. The stamp holds pyproject.toml's hash: set-up is skipped until that changes.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.g4diag-stamp
PYTHON ?=
# An existing environment first; each is tried by running it, since a pyenv shim may exist and still refuse.
CANDIDATES := $(BIN)/python $(or $(PYTHON),python3 python3.12 python3.11)
export HYPOTHESIS_PROFILE ?= $(if $(CI),ci,dev)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup repro test clean

help:
	@echo "make repro   set up, then show the seed bug in the real sglang, on the CPU"
	@echo "make test    set up, then ruff, mypy and pytest (ARGS=... goes to pytest)"
	@echo "make setup   .venv with g4diag[stack,test]; PYTHON=... picks the Python of a new .venv (3.11 or 3.12)"
	@echo "make clean   remove caches, build outputs and the set-up stamp; .venv stays"

setup:
	@sha256sum --check --status $(STAMP) 2>/dev/null && exit 0; \
	for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "g4diag: wanted Python 3.11 or 3.12, found none of: $(CANDIDATES)" >&2; exit 3; fi; \
	if [ "$$python" != $(BIN)/python ]; then "$$python" -m venv $(VENV) || exit 3; fi; \
	echo "g4diag: installing into $(VENV) (minutes and some GB the first time) ..." >&2; \
	$(BIN)/python -m pip install -qq -e '.[stack,test]' && sha256sum pyproject.toml > $(STAMP)

repro: setup
	@$(BIN)/g4diag repro trtllm-mha-swa

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(ARGS)

clean:
	rm -rf build dist out .hypothesis .mypy_cache .pytest_cache .ruff_cache $(STAMP)
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
