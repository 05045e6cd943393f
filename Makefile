# STACK is the release of sglang under g4diag: make test STACK=RELEASE. The default is pyproject's extra `stack`.
DEFAULT_STACK := $(shell sed -n 's/^stack = \["sglang==\(.*\)"\]$$/\1/p' pyproject.toml)
STACK ?= $(DEFAULT_STACK)
# Each release has its own light environment. The heavy part is shared by all checkouts: tools/stack_env.py.
VENV := .venv$(if $(filter-out $(DEFAULT_STACK),$(STACK)),-$(STACK))
BIN := $(VENV)/bin
# Written by stack_env.py: hashes of what the environment was made from. Set-up is skipped until one changes.
STAMP := $(VENV)/.g4diag-stamp
PYTHON ?=
# An existing environment first, so that it keeps its Python.
CANDIDATES := $(BIN)/python $(or $(PYTHON),python3 python3.12 python3.11)
# Machines with a GPU have Python 3.12.
GPU_PYTHON ?= python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python)
# Processes that share the tests, a file at a time, in the order that tests/conftest.py gives them. WORKERS=0, or
# ARGS='-p no:xdist', runs them in one, as a plain pytest does.
WORKERS ?= 2
SHARED = $(if $(findstring no:xdist,$(ARGS)),,-n $(WORKERS) --dist loadfile --no-loadscope-reorder)
export HYPOTHESIS_PROFILE ?= $(if $(CI),ci,dev)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SPACE := $() $()
# $(call find_python,MINORS,CANDIDATES): $$python is the first that is a Python 3.MINOR. Each is tried by running it,
# since a pyenv shim may exist and still refuse.
define find_python
python=; for candidate in $(2); do \
  if "$$candidate" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(1:%=3.%)".split())' 2>/dev/null; \
  then python=$$candidate; break; fi; \
done; \
if [ -z "$$python" ]; then echo "g4diag: wanted Python $(subst $(SPACE), or ,$(1:%=3.%)), found none of: $(strip $(2))" >&2; exit 3; fi
endef

.DEFAULT_GOAL := help
.PHONY: help setup overlay repro test lint pytest stacks clean-stacks matrix matrix-docs hypofuzz gpu-pack clean

help:
	@echo "make repro   set up, then show the frozen-KV SWA bug (sglang #26957) on the CPU"
	@echo "make test    set up, then ruff, mypy and pytest (ARGS=... goes to pytest; WORKERS=2)"
	@echo "make setup   $(VENV) with g4diag[test] on sglang $(STACK); PYTHON=... picks the Python of a new one (3.11 or 3.12)"
	@echo "             STACK=RELEASE with any of these: another one, in its own environment"
	@echo "             STACK=none with test: no sglang is installed; lint, and the tests that need none"
	@echo "make overlay  .venv-STACK-overlay: sglang STACK in front of the nearest stack; some 0.5 GB, for a CPU only"
	@echo "make stacks  the releases installed for all checkouts, with sizes; make clean-stacks removes them"
	@echo "make gpu-pack  .gpu: what a bare CUDA machine lacks, in one file or in parts (tools/on_gpu.sh); GPU_PYTHON=..."
	@echo "make matrix  run every scenario on every release, in overlays, and keep how each bug stands; RELEASES=, SCENARIOS="
	@echo "make matrix-docs  TRIAGE's table of which bug is alive in which release, from its data"
	@echo "make hypofuzz  drive MACHINE=$(MACHINE) with HypoFuzz, until stopped; a dashboard shows coverage"
	@echo "make clean   remove caches, build outputs and set-up stamps; environments and stacks stay"

# STACK=none: without a stack, as a plain `pip install .` is. For lint, and the tests that need none.
setup:
ifeq ($(STACK),none)
	@sha256sum --check --status $(STAMP) 2>/dev/null && exit 0; \
	$(call find_python,11 12,$(CANDIDATES)); echo "g4diag: setting $(VENV) up ..."; \
	"$$python" -m venv $(VENV) && $(BIN)/python -m pip install -q -e '.[test]' && sha256sum pyproject.toml > $(STAMP)
else
	@sha256sum --check --status $(STAMP) 2>/dev/null && exit 0; \
	$(call find_python,11 12,$(CANDIDATES)); \
	"$$python" tools/stack_env.py setup $(STACK) $(VENV)
endif

# What differs between that release and a stack that is there already, in a layer of its own: tools/overlay_env.py.
OVERLAY := .venv-$(STACK)-overlay
overlay:
	@sha256sum --check --status $(OVERLAY)/.g4diag-stamp 2>/dev/null && exit 0; \
	$(call find_python,11 12,$(OVERLAY)/bin/python $(CANDIDATES)); \
	"$$python" tools/overlay_env.py setup $(STACK) $(OVERLAY)

repro: setup
	@$(BIN)/g4diag repro trtllm-mha-swa --device cpu

test: lint pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# STACK=none: the tests that need no stack, with none importable. ARGS=--of-stack: all others. ARGS=--of-release: of
# these, what a release may change. CI runs these.
pytest: setup
	$(BIN)/pytest $(SHARED) $(if $(CI),--durations=25) $(if $(filter none,$(STACK)),--stackless) $(ARGS)

# Not in the test extra: it is a campaign's tool. One machine a run: HypoFuzz does not tear one class down before it
# sets the next one up. Finds go to .hypothesis, so that `make test` and `g4diag fuzz` see them.
PINS = "$$(sed -n '$$s/^[0-9a-f]*  //p' $(STAMP))"
MACHINE ?= SwaAllocatorMachine
hypofuzz: setup
	$(BIN)/python -c 'import hypofuzz' 2>/dev/null || $(BIN)/python -m pip install -qq -c $(PINS) hypofuzz
	$(BIN)/hypothesis fuzz $(ARGS) -- tests/fuzz/hypofuzz_machines.py::Test$(MACHINE)

# One process at a time: hours for all of them.
matrix: setup
	$(BIN)/python tools/matrix.py $(addprefix --release ,$(RELEASES)) $(addprefix --scenario ,$(SCENARIOS)); \
	code=$$?; [ $$code -le 1 ] && $(MAKE) --no-print-directory matrix-docs; exit $$code

# TRIAGE's table of releases, from g4diag/matrix/cells.json. A test fails where the two differ.
matrix-docs: setup
	@$(BIN)/python tools/matrix_docs.py

# Any Python that runs stack_env.py will do.
stacks clean-stacks:
	@$(call find_python,11 12,$(CANDIDATES)); \
	"$$python" tools/stack_env.py $(if $(filter clean-stacks,$@),clean,list)

# Packages are taken from a stack under Python 3.12, which lies in the same cache.
gpu-pack:
	@if [ "$$(cat .gpu/release 2>/dev/null)" = $(STACK) ]; then ls -l .gpu; exit 0; fi; \
	$(call find_python,12,$(GPU_PYTHON)); \
	stack=$$("$$python" tools/stack_env.py stack $(STACK)) || exit $$?; \
	rm -rf .gpu/release .gpu/count .gpu/site.tar.xz .gpu/part.* .gpu/q[0-9]* && "$$stack/bin/python" tools/gpu_pack.py .gpu && echo $(STACK) > .gpu/release && ls -l .gpu

clean:
	rm -rf .gpu build dist out .hypothesis .mypy_cache .pytest_cache .ruff_cache .venv*/.g4diag-stamp
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
