# `make demo` and `make test` need Python 3.11-3.13, make and pip; they set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# Two test processes, of one thread each, and a file's tests in one of them.
PROCESSES ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

.PHONY: demo test test-all chaos fuzz kernels docs lint types check clean

demo: $(READY)
	$(BIN)/reidpipe demo

test: $(READY)
	$(PYTEST) -m "not slow"

test-all: $(READY)
	$(PYTEST)

# Kills, full disks, signals and crowds: half an hour on a quiet core. docs/reliability.md
chaos: $(READY)
	$(BIN)/python -m tests.chaos

# 6,000 generated inputs, each in a process of its own; a tenth of them is in test-all.
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz

# What is compared by numbers, on the kernels of another processor than this one.
kernels: $(READY)
	OPENBLAS_CORETYPE=$$($(BIN)/python -m tests.other_kernel) $(PYTEST) -m "not slow" \
	  tests/reid_train/evaluation tests/reid_train/losses tests/reid_train/models

# The site, without a network; a warning stops it. Open site/index.html.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright

check: lint types docs test-all kernels

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "found $$($(PYTHON) --version 2>&1), expected Python 3.11-3.13: type make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build site *.egg-info
