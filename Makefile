PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test check bench clean

help:
	@echo "make demo    set up and render a first video, extend it, show its lineage (CPU, offline once installed)"
	@echo "make test    set up and run every test"
	@echo "make check   ruff and mypy"
	@echo "make bench   the figures that the docs quote"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/svid demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py

clean:
	rm -rf .venv dist build
