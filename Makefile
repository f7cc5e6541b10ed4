# The two commands of a newcomer: `make demo` and `make test`. Both create .venv when it is missing or out of date.
#
#   PYTHON    the interpreter that .venv is made with (3.11 or newer)
#   BACKENDS  the backends beside TensorFlow that `make test` covers; BACKENDS=jax leaves PyTorch out, BACKENDS= both
#   TORCH     what pip installs for PyTorch. The pin lets pip prefer a CPU build (2.13.0+cpu) where an index offers one:
#             PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make test
#             On Linux, PyPI's own build brings several GB of CUDA libraries.
#   JOBS      processes that share the tests of a backend
#   ARGS      more arguments for pytest, e.g. make test ARGS="-k unet -x"

PYTHON ?= python3
BACKENDS ?= jax torch
TORCH ?= torch==2.13.0
JOBS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo test test-thorough test-all check format bench docs-tables clean
.DEFAULT_GOAL := help

help:
	@echo "make demo         create .venv, install, train and report on synthetic images (91 s of CPU time, once installed)"
	@echo "make test         the default test suite on TensorFlow, then the backend-neutral tests on: $(BACKENDS)"
	@echo "make test-thorough  what it leaves out: minutes more of each backend; CI runs BACKENDS= (TensorFlow)"
	@echo "make test-all     both of these, and the slow tests"
	@echo "make check        ruff (lint and format), import-linter and pyright"
	@echo "make format       let ruff repair what it can"
	@echo "make bench        run the benchmarks, results in benchmarks/results"
	@echo "make docs-tables  regenerate the tables of docs/ from the registries"
	@echo "make clean        remove .venv and the caches"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kerazoo needs Python 3.11 or newer, and $(PYTHON) is older or missing. Name another: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); this takes a few minutes the first time."
	$(BIN)/python -m pip install -qq --editable ".[dev]"
	@touch $@

$(VENV)/.installed-jax: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --editable ".[jax]"
	@touch $@

$(VENV)/.installed-torch: $(VENV)/.installed
	$(BIN)/python -m pip install -qq "$(TORCH)" --editable ".[torch]"
	@touch $@

INSTALLED := $(VENV)/.installed $(BACKENDS:%=$(VENV)/.installed-%)

demo: $(VENV)/.installed
	$(BIN)/kerazoo demo

# $(call suite,MARKS): all marked tests on TensorFlow, then the backend-neutral ones on each other backend.
define suite
	KERAS_BACKEND=tensorflow $(PYTEST) -m "$(1)" $(ARGS)
	$(foreach backend,$(BACKENDS),KERAS_BACKEND=$(backend) $(PYTEST) -m "backends and $(1)" $(ARGS) &&) true
endef

test: $(INSTALLED)
	$(call suite,not slow and not thorough)

test-thorough: $(INSTALLED)
	$(call suite,thorough and not slow)

test-all: $(INSTALLED)
	$(call suite,(slow or not slow))

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --project pyproject.toml

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed $(VENV)/.installed-jax
	$(foreach script,$(filter-out benchmarks/machine.py,$(wildcard benchmarks/*.py)),$(BIN)/python $(script) &&) true

docs-tables: $(VENV)/.installed
	$(BIN)/python docs/tables.py

clean:
	rm -rf $(VENV) .ruff_cache .pytest_cache .hypothesis build *.egg-info
