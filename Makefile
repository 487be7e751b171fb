PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-fast test-oldest lint bench

# Installed anew when what is to be installed has changed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,demo]"
	touch $@

demo: .venv/installed
	$(BIN)/python docs/demo.py demo

test: .venv/installed
	$(BIN)/python -m pytest -q

test-fast: .venv/installed
	$(BIN)/python -m pytest -q -m "not slow"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# YARDSTICK: fidelity.py; PEER: the python of its environment; SPLITS: what its `splits` has written.
bench: .venv/installed
	$(BIN)/python benchmarks/peer.py $(YARDSTICK) $(SPLITS) adult --peer-python $(PEER)

# The suite on the oldest versions that pyproject.toml allows.
.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet -c constraints-oldest.txt -e ".[test]"
	touch $@

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest -q
