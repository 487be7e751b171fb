PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo docs dist test test-fast test-oldest lint format bench

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s ':'

# Installed again when the dependencies have changed. Of 14,000 modules a quarter is ever imported;
# Python compiles these then.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e ".[test,demo]"
	touch $@

demo: .venv/installed ## Fit a real table, and write a synthetic one, a model and a picture to demo/.
	$(BIN)/python docs/demo.py demo

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

# One thread: on a busy machine, threads that wait for each other make the small examples very slow.
docs: .venv/installed-docs ## Build the documentation site in docs/_build/html; a warning is an error.
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --quiet -b html docs docs/_build/html

.venv/installed-dist: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dist]"
	touch $@

dist: .venv/installed-dist ## Build the source distribution and the wheel in dist/, and check them.
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

# Tests are small, and run fastest in one process per core with one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal
# With COVERAGE=1 it fails if less than 95 % of the lines are covered.
COVER := $(if $(COVERAGE),--cov --cov-report=term-missing:skip-covered --cov-fail-under=95)
test: .venv/installed ## Run the whole suite; COVERAGE=1 measures what it covers.
	$(PYTEST) $(COVER)

test-fast: .venv/installed ## Run the suite without the slow tests.
	$(PYTEST) -m "not slow"

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
	.venv-oldest/bin/pip install --quiet --no-compile -c constraints-oldest.txt -e ".[test]"
	touch $@

test-oldest: .venv-oldest/installed ## Run the suite on the oldest supported versions.
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -n auto --dist worksteal
