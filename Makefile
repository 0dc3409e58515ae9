PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test check bench crash fuzz clean

help:
	@echo "make demo    set up and render a first video with a cut, extend it, show its lineage (CPU, offline once installed)"
	@echo "make test    set up and run every test"
	@echo "make check   ruff and mypy"
	@echo "make bench   the figures that the docs quote"
	@echo "make crash   500 kills at random instants, and what they changed (nothing)"
	@echo "make fuzz    26,600 mutated manifests, weights, pictures and clips, read and rendered; ends with one line of JSON"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/svid demo

# Files in the order of their names: xdist would leave those with few tests, which are the longest ones, to the end.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py

crash: $(READY)
	$(BIN)/python -m tests.crash.chaos

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hostile.fuzz

clean:
	rm -rf .venv dist build
