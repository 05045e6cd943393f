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
.PHONY: help setup repro test hypofuzz gpu-pack clean

help:
	@echo "make repro   set up, then show the frozen-KV SWA bug (sglang #26957) on the CPU"
	@echo "make test    set up, then ruff, mypy and pytest (ARGS=... goes to pytest)"
	@echo "make setup   .venv with g4diag[stack,test]; PYTHON=... picks the Python of a new .venv (3.11 or 3.12)"
	@echo "make gpu-pack  .gpu/site.tar.xz: what a bare CUDA machine lacks (tools/on_gpu.sh); GPU_PYTHON=... picks a 3.12"
	@echo "make hypofuzz  drive MACHINE=$(MACHINE) with HypoFuzz, until stopped; a dashboard shows coverage"
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
	@$(BIN)/g4diag repro trtllm-mha-swa --device cpu

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(ARGS)

# Not in the test extra: it is a campaign's tool. One machine a run: HypoFuzz does not tear one class down before it
# sets the next one up. Finds go to .hypothesis, so that `make test` and `g4diag fuzz` see them.
MACHINE ?= SwaAllocatorMachine
hypofuzz: setup
	$(BIN)/python -c 'import hypofuzz' 2>/dev/null || $(BIN)/python -m pip install -qq hypofuzz
	$(BIN)/hypothesis fuzz $(ARGS) -- tests/fuzz/hypofuzz_machines.py::Test$(MACHINE)

# A Python 3.12, as on those machines, with sglang in it: packages are taken from there. Made here if none is given.
PACKER := ../shared/gpu/pack_site.py
GPU_PYTHON ?= build/gpu-venv/bin/python
gpu-pack: .gpu/site.tar.xz
	@ls -l .gpu/site.tar.xz

.gpu/site.tar.xz:
	@if ! $(GPU_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then \
	  python3.12 -m venv build/gpu-venv || exit 3; \
	fi
	@$(GPU_PYTHON) -c 'import sglang' 2>/dev/null || $(GPU_PYTHON) -m pip install -qq sglang==0.5.13
	@mkdir -p .gpu && $(GPU_PYTHON) $(PACKER) .gpu/site.tar.xz

clean:
	rm -rf .gpu build dist out .hypothesis .mypy_cache .pytest_cache .ruff_cache $(STAMP)
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
