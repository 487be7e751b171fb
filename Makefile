PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-oldest lint format bench

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

# Installed again when the dependencies have changed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,demo]"
	touch $@

demo: .venv/installed ## Fit a real table, and write a synthetic one, a model and a picture to demo/.
	$(BIN)/python docs/demo.py demo

# With COVERAGE=1 it fails if less than 95 % of the lines are covered.
COVER := $(if $(COVERAGE),--cov --cov-report=term-missing:skip-covered --cov-fail-under=95)
test: .venv/installed ## Run the whole suite; COVERAGE=1 measures what it covers.
	$(BIN)/python -m pytest -q $(COVER)

test-fast: .venv/installed ## Run the suite without the slow tests.
	$(BIN)/python -m pytest -q -m "not slow"

lint: .venv/installed ## Check style, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed ## Format the code, and fix what the linter can fix.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# YARDSTICK: fidelity.py; PEER: the python of its environment; SPLITS: what its `splits` has written.
bench: .venv/installed ## Compare with ctgan; needs YARDSTICK, PEER and SPLITS, see benchmarks/peer.py.
	$(BIN)/python benchmarks/peer.py $(YARDSTICK) $(SPLITS) adult --peer-python $(PEER)

.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet -c constraints-oldest.txt -e ".[test]"
	touch $@

test-oldest: .venv-oldest/installed ## Run the suite on the oldest supported versions.
	.venv-oldest/bin/python -m pytest -q
