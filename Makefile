# Everything a developer runs. Each target makes its own .venv when it is missing; all that must be
# on the machine is Python 3.11 or newer (with venv), git and make.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python on PATH that runs and is new enough (a version manager's shim may be there and not run).
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python3.15 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$python" && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
SPHINX := $(BIN)/python -m sphinx -W -n --keep-going -q

# Where it is set, every worker would compile parmap anew.
unexport PYTHONDONTWRITEBYTECODE

# `make test PYTEST_ARGS="-k order -x"`; `make demo FOLDER=path`; `make bench BENCH_ARGS="--rounds 9 tiny"`;
# `make stress SECONDS=600 PARMAP_TEST_SEED=1`
PYTEST_ARGS ?=
# Most tests wait more than they compute (for deaths, for exits), so there are twice as many processes
# as CPUs; `make test JOBS=0` runs all in one, for a debugger.
JOBS ?= 4
FOLDER ?=
BENCH_ARGS ?=
RESULTS := benchmarks/results
SECONDS ?= 180

# What tests the core and the wire with both sides in one process, or in fresh interpreters.
COVERING := tests/unit/core tests/unit/wire tests/unit/test_hearsay.py \
	tests/property/test_arrays_travel.py tests/property/test_payload_properties.py tests/property/test_frames_properties.py

.PHONY: help demo test test-integrations quick check coverage lint types docs bench bench-plots bench-page bench-compare stress nightly clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## index the standard library's source in parallel, beside a plain loop
	@$(BIN)/python examples/index_source.py $(FOLDER)

test: $(VENV)/.installed-dev  ## every test but the stress tests (about 6 minutes on 2 cores)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

test-integrations: $(VENV)/.installed-integrations  ## parmap with Dask, joblib and others that are real
	$(BIN)/python -m pytest tests/ecosystem $(PYTEST_ARGS)

quick: $(VENV)/.installed-dev  ## the tests that take less than a second each
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow and not stress" $(PYTEST_ARGS)

# The floors: tests reach every branch of the core and of the wire, and it stays so.
coverage: $(VENV)/.installed-dev  ## whether tests reach all branches of the core and of the wire (about a minute)
	@rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest -q -p no:xdist $(COVERING)
	@$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --include='src/parmap/_core/*' --show-missing --skip-covered --fail-under=100
	$(BIN)/python -m coverage report --include='src/parmap/_wire/*' --show-missing --skip-covered --fail-under=100

check: lint types docs coverage  ## what must be clean before a commit: ruff, mypy, pyright, docs, coverage

lint: $(VENV)/.installed-dev  ## ruff, both the rules and the format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy (strict), pyright, and a complete public face
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pyright --verifytypes parmap --ignoreexternal  # it ignores --pythonpath

docs: $(VENV)/.installed-dev  ## build the documentation, warnings are errors, run its examples, miss no public name
	$(SPHINX) -b html docs docs/_build/html
	@! grep -rnE '<(script|link|img)[^>]+(src|href)="(https?:)?//' --include='*.html' docs/_build/html \
		|| { echo "a page must not load anything from elsewhere"; exit 1; }
	$(SPHINX) -b coverage docs docs/_build/coverage
	$(SPHINX) -b doctest docs docs/_build/doctest

bench: $(VENV)/.installed-bench  ## parmap beside its peers, in one run (long; BENCH_ARGS="--quick tiny")
	$(BIN)/python benchmarks/run.py $(or $(BENCH_ARGS),--all)

bench-plots: $(VENV)/.installed-bench  ## draw the results of the last `make bench`
	$(BIN)/python benchmarks/plots.py $(RESULTS)/latest.local.json

bench-page: $(VENV)/.installed-bench  ## put the last `make bench` on the documentation's page on performance
	$(BIN)/python benchmarks/plots.py $(RESULTS)/latest.local.json --page --to docs/explanation/measured

bench-compare: $(VENV)/.installed-bench  ## the last `make bench` beside the one before (or A=file B=file)
	$(BIN)/python benchmarks/compare.py $(or $(A),$(RESULTS)/previous.local.json) $(or $(B),$(RESULTS)/latest.local.json)

stress: $(VENV)/.installed-dev  ## kill random processes under load for 3 minutes (SECONDS=600); nothing may be lost
	PARMAP_STORM_SECONDS=$(SECONDS) $(BIN)/python -m pytest -m stress tests/faults/test_storm.py \
		-o faulthandler_timeout=$$(($(SECONDS) + 600)) $(PYTEST_ARGS)

nightly: $(VENV)/.installed-dev  ## every test, also the long ones, with 10,000 examples per property (hours)
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -m "stress or not stress" \
		-o faulthandler_timeout=1800 $(PYTEST_ARGS)

clean:  ## remove .venv and everything built
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# A new pip first: --group came with pip 25.1, and the pip that venv brings along may be years older.
$(VENV)/.pip:
	@test -n "$(PYTHON)" || { echo "parmap needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.installed: $(VENV)/.pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable . --group bench
	@touch $@

$(VENV)/.installed-integrations: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --group integrations
	@touch $@
