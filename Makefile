# Everything runs in a virtual environment that `make setup` creates and keeps up to date.
#   make VENV=/elsewhere/venv ...     put it elsewhere            (default .venv)
#   make PYTHON=/path/to/python ...   make it from this Python    (default: the first 3.11+ found)

VENV ?= .venv
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python)
PYTEST_ARGS ?=
DEMO_ARGS ?=

BIN := $(abspath $(VENV))/bin/python
PIP := $(BIN) -m pip --disable-pip-version-check --quiet
# This checkout first, also where an environment is shared with another one.
RUN := PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" $(BIN)

# The stamp's name holds what the environment depends on, so a change of any of it is a new stamp.
SETUP_INPUTS := constraints.txt setup.py $(wildcard balms_seg/detectron2_wheel/*.py)
STAMP := $(VENV)/.ready-$(shell { cat $(SETUP_INPUTS); pwd; } | cksum | cut -d ' ' -f 1)

.DEFAULT_GOAL := help
.PHONY: help setup test lint demo docs mutants find-python

help:
	@echo "make setup   create or update the environment in $(VENV)"
	@echo "make test    run the tests; PYTEST_ARGS are passed on"
	@echo "make lint    ruff and mypy"
	@echo "make mutants MODULES='balms_seg/losses balms_seg/meta'   do the tests notice small changes?"
	@echo "make docs    write the API pages into output/docs"
	@echo "make demo    make the toy data, train, evaluate and report; DEMO_ARGS=--short for a shorter run"

setup: $(STAMP)
	@echo "setup: $(VENV) is ready"

test: $(STAMP)
	@echo "test: pytest $(PYTEST_ARGS)"
	@$(RUN) -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	@echo "lint 1/3: ruff check"
	@$(BIN) -m ruff check .
	@echo "lint 2/3: ruff format --check"
	@$(BIN) -m ruff format --check .
	@echo "lint 3/3: mypy"
	@$(BIN) -m mypy

demo: $(STAMP)
	@$(RUN) tools/run_demo.py $(DEMO_ARGS)

docs: $(STAMP)
	@$(RUN) tools/make_docs.py

MODULES ?= balms_seg
MUTANT_ARGS ?=
mutants: $(STAMP)
	@$(RUN) tools/mutants.py $(MODULES) $(MUTANT_ARGS)

# Prints the Python an environment is made from, or says what is missing.
FIND_PYTHON = for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "$$candidate"; exit 0; \
	  fi; \
	done; \
	echo "setup: expected Python 3.11 or newer, but none of these is: $(CANDIDATES)." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1

find-python:
	@$(FIND_PYTHON)

$(BIN):
	@python=$$($(FIND_PYTHON)) || exit 1; \
	echo "setup 1/4: creating $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv "$(VENV)" || { \
	  echo "setup: $$python cannot create $(VENV); on Debian and Ubuntu install python3-venv," >&2; \
	  echo "remove $(VENV) and run this again." >&2; exit 1; }

$(STAMP): | $(BIN)
	@echo "setup 2/4: pip"
	@$(BIN) -m pip --version >/dev/null 2>&1 || $(BIN) -m ensurepip >/dev/null
	@$(PIP) install --constraint constraints.txt 'pip<26' setuptools wheel
	@echo "setup 3/4: torch and the other packages (about 6 GB the first time)"
	@$(PIP) install --constraint constraints.txt --no-compile --no-build-isolation --editable '.[all,dev]'
	@$(BIN) -c 'import cv2' 2>/dev/null || { \
	  echo "setup: opencv-python needs libGL, which this machine lacks: taking opencv-python-headless"; \
	  $(PIP) install --constraint constraints.txt --no-deps --force-reinstall opencv-python-headless; }
	@echo "setup 4/4: detectron2"
	@$(RUN) -m balms_seg install-detectron2 --constraint constraints.txt
	@rm -f "$(VENV)"/.ready-* && touch "$@"
