# make demo, make test and make check set up all they need in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-slow lowest bench ship check dist docs format clean

help:  ## list the goals
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## install vaelab and its tools into .venv

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=...") if sys.version_info < (3, 11) else 0'
	@echo "installing vaelab and its tools into $(VENV): some minutes, about 3 GB"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY)  ## train three VAEs on MNIST and write a report (the main job)
	$(BIN)/vaelab compare mnist --out runs/demo --overwrite
	@echo "next: source $(BIN)/activate; vaelab explore runs/demo/vae runs/demo/conv"

test: $(READY)  ## run the tests and the examples in the docstrings
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: $(READY)  ## run all tests, those that take minutes included
	$(BIN)/python -m pytest -q

LOWEST := build/lowest
lowest:  ## run the tests with the lowest versions that are allowed, in build/lowest (several GB)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[dev,mlflow]'
	$(LOWEST)/bin/python -m pytest -q -n 2 --dist loadfile -m "not slow"

BENCH ?=
bench: $(READY)  ## measure against baselines, about three hours; BENCH=startup for one of them
	$(BIN)/python benchmarks/run.py $(BENCH)

NAMES ?=
ship: $(READY)  ## train the models that ship, minutes each; NAMES=mnist-vae for one of them
	$(BIN)/python tools/ship.py $(NAMES)

check: $(READY) docs  ## check format, lint, types, floors, the public names, and the site
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npx --yes --package typescript@5.9.3 tsc -p tsconfig.json
	$(BIN)/python -m pytest -q tests/test_floors.py tests/test_public_api.py

dist: $(READY)  ## build sdist and wheel into dist/, and try the wheel where nothing else of vaelab is
	$(BIN)/python tools/dist.py

docs: $(READY)  ## build the documentation site, build/docs/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

format: $(READY)  ## format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and all caches, but no runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
