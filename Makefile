# Every target sets itself up: a machine with Python 3.11 to 3.13, git and make is enough.
VENV := .venv
BIN := $(VENV)/bin
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The first of these that is a Python which cfworld supports.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$python && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test shapes lint types format wheel clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.run  ## Generate a minute of video from the shipped world: outputs/demo/rollout.mp4
	$(BIN)/cfworld rollout world=doom_take_cover frames=2100 out=outputs/demo

test: $(VENV)/.dev  ## Run the tests, on all cores
	$(TEST)

shapes: $(VENV)/.dev  ## Run the tests, checking the shapes that are annotated
	$(TEST) --jaxtyping-packages cfworld,beartype.beartype

lint: $(VENV)/.dev  ## Check style, format and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell

types: $(VENV)/.dev  ## Check the types
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(VENV)/.dev  ## Format the code, mending what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: $(VENV)/.dev  ## Build dist/*.whl
	rm -rf build dist
	$(BIN)/python -m build --quiet --wheel --no-isolation

clean:  ## Remove the virtual environment and what was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "cfworld needs Python 3.11, 3.12 or 3.13 on the PATH (or: make PYTHON=/path/to/python)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) pip setuptools wheel
	$(INSTALL) --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@
