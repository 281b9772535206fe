# Everything runs in a virtual environment inside the checkout. To begin, use `make demo`
# and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PACKAGE = $(VENV)/.package
TOOLS = $(VENV)/.tools
SITE_TOOLS = $(VENV)/.site
DEMO_PORT ?= 65432

.PHONY: demo test oldest compat soak bench bench-growth bench-100k bench-1m lint typecheck wheel release-check programs clean

demo: $(PACKAGE)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh $(DEMO_PORT)

# Runs the whole suite on the platform's default reactor. Tests that depend on the reactor run
# again on asyncio's. Four processes keep two cores busy, because most tests wait for programs.
# COVERAGE=1 also measures coverage, including the programs that tests start. It takes nearly twice
# as long, also because each program is then an interpreter of its own. A program that a signal
# ends leaves no record.
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

# Runs the core of the suite with the oldest version of each dependency in pyproject.toml, on
# another Python than the rest if there is one.
OLDEST = $(VENV)/.oldest
OTHER_PYTHON = $(shell sh tests/support/pythons.sh $(BIN)/python | head -n 1)
oldest: $(TOOLS)
	$(or $(OTHER_PYTHON),$(PYTHON)) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python --version
	$(BIN)/python tests/support/oldest.py pyproject.toml >$(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint $(OLDEST)/constraints.txt --editable '.[test]'
	$(OLDEST)/bin/python -m pytest -n 4 -q -p no:cacheprovider -m "oldest and not soak"

# Runs the core of the suite on each Python of this machine, and the tests that depend on the
# reactor on each reactor. It takes about 10 minutes. Twisted's own transports can miss a reset on
# uvloop (docs/express.md), so that a run has a limit.
COMPAT = $(VENV)/.compat
compat: $(TOOLS)
	set -e; for python in $$(sh tests/support/pythons.sh); do \
	    $$python --version; \
	    $$python -m venv --clear $(COMPAT); \
	    $(COMPAT)/bin/python -m pip install --quiet --disable-pip-version-check \
	        --editable '.[test]'; \
	    $(COMPAT)/bin/python -m pytest -n 4 -q -p no:cacheprovider -m "oldest and not soak"; \
	done
	set -e; for reactor in epoll express poll select asyncio uvloop; do \
	    echo "reactor: $$reactor"; \
	    ECHOFACTORY_REACTOR=$$reactor timeout --signal KILL 600 $(BIN)/python -m pytest -n 4 -q \
	        -m "reactors and reactor and not soak"; \
	done

# Runs the tests that take minutes: the memory of a run stays constant.
soak: $(TOOLS)
	$(BIN)/python -m pytest -m soak

# Compares our programs with others, and writes bench/ and docs/benchmarks.md. It takes about
# 20 minutes. The machine needs two idle cores, gcc and libssl-dev. QUICK=1 only checks that
# the bench works. ROWS=tls,tls-client measures only these parts, into build/bench.
bench: $(TOOLS)
	$(BIN)/python -m bench $(if $(filter-out 0,$(QUICK)),--quick) $(if $(ROWS),--rows $(ROWS))

# Shows what a message and a connection cost as the work grows: with more connections in a process,
# and with more processes. It takes about 5 minutes, and writes bench/growth.json.
bench-growth: $(TOOLS)
	$(BIN)/python -m bench.growth $(if $(filter-out 0,$(QUICK)),--quick)

# Opens 100,000 verified connections from several processes to several processes of this machine,
# and holds them. bench-1m opens a million, or as many as there is memory for. They need 20,000
# descriptors for a process, and about 2 and 20 GiB of memory.
bench-100k: $(TOOLS)
	$(BIN)/python -m bench.scale 100000 --json build/bench/scale-100k.json
bench-1m: $(TOOLS)
	$(BIN)/python -m bench.scale 1000000 --json build/bench/scale-1m.json

lint: $(TOOLS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

typecheck: $(TOOLS)
	$(BIN)/mypy --strict

# Tests the built wheel in a clean environment outside the checkout.
wheel:
	PYTHON=$(PYTHON) sh tests/support/check_wheel.sh

# Checks what a release would publish: the metadata of sdist and wheel, and each of them
# installed with pip, pipx and uv in clean environments. It takes about two minutes.
release-check:
	PYTHON=$(PYTHON) sh tests/support/check_release.sh

# Runs programs of others, such as Klein and Scrapy, on the reactor of the built wheel. They have
# an environment of their own, outside the checkout. It takes about a minute, and needs ssh and
# ssh-keygen. CHECKS="-k conch" goes to pytest.
programs:
	PYTHON=$(PYTHON) sh tests/support/check_programs.sh $(CHECKS)

# Builds the site into build/site: the pages of docs/, and the API from the docstrings. A warning is
# an error.
.PHONY: site
site: $(SITE_TOOLS)
	$(BIN)/python tests/support/build_site.py build/site

# Shows the section of CHANGELOG.md that the fragments in newsfragments/ make. With WRITE=1, it
# writes the section and deletes the fragments.
VERSION = $$($(BIN)/python -c 'from echofactory import __version__; print(__version__)')
.PHONY: changelog
changelog: $(TOOLS)
	$(BIN)/towncrier build --version "$(VERSION)" $(if $(filter-out 0,$(WRITE)),--yes,--draft)

# Checks that a version can be released, and builds it into dist/. CONTRIBUTING.md has the steps
# before and after.
.PHONY: release
release: $(TOOLS)
	$(BIN)/python tests/support/check_version.py
	$(MAKE) wheel
	rm -rf dist
	$(PYTHON) -m venv --clear $(VENV)/.release
	$(VENV)/.release/bin/python -m pip install --quiet --disable-pip-version-check build twine
	$(VENV)/.release/bin/python -m build --outdir dist
	$(VENV)/.release/bin/python -m twine check --strict dist/*

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(PACKAGE): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(TOOLS): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(PACKAGE)

$(SITE_TOOLS): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@ $(PACKAGE)

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
