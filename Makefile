# Everything runs in a virtual environment of the checkout's own. `make demo`
# and `make test` are all that a newcomer needs.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PACKAGE = $(VENV)/.package
TOOLS = $(VENV)/.tools
DEMO_PORT ?= 65432

.PHONY: demo test oldest soak bench lint typecheck wheel clean

demo: $(PACKAGE)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh $(DEMO_PORT)

# The whole suite on the platform's own reactor, and what depends on it again on
# asyncio's; most tests wait for programs, so that four at a time keep two cores busy.
# COVERAGE=1 measures what is covered as well, in the programs too, for twice the
# time; only a program that a signal ends leaves no record.
PYTEST = -m pytest -n 4 --dist worksteal
test: $(TOOLS)
ifeq ($(COVERAGE),1)
	rm -f .coverage .coverage.*
	$(BIN)/coverage run $(PYTEST) --reactor=default
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=93
else
	$(BIN)/python $(PYTEST) --reactor=default
endif
	$(BIN)/python $(PYTEST) --reactor=asyncio -q -m "reactors and reactor and not soak"

# The core of the suite, on the oldest of each dependency that pyproject.toml admits.
OLDEST = $(VENV)/.oldest
oldest: $(TOOLS)
	$(PYTHON) -m venv --clear $(OLDEST)
	$(BIN)/python tests/support/oldest.py pyproject.toml >$(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint $(OLDEST)/constraints.txt --editable '.[test]'
	$(OLDEST)/bin/python -m pytest -n 4 -q -p no:cacheprovider -m "oldest and not soak"

# What takes minutes: that a run's memory stays flat.
soak: $(TOOLS)
	$(BIN)/python -m pytest -m soak

# Ours beside others, into bench/ and docs/benchmarks.md: some ten minutes, on a machine
# that has two cores to itself, gcc and libssl-dev. QUICK=1 only shows that it works.
bench: $(TOOLS)
	$(BIN)/python -m bench $(if $(filter-out 0,$(QUICK)),--quick)

lint: $(TOOLS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

typecheck: $(TOOLS)
	$(BIN)/mypy --strict

# The built wheel, alone in a clean environment outside the checkout.
wheel:
	PYTHON=$(PYTHON) sh tests/support/check_wheel.sh

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(PACKAGE): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(TOOLS): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(PACKAGE)

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
