# Every target makes what it needs: python3 >= 3.11 and make are all that has to be there.
# `make -s` style output: recipes are silent, the scripts say what they do.
.DEFAULT_GOAL := help
.PHONY: help demo fleet test check bench scale ring crash chaos chaos-short services environment base

# The first Python that is new enough; PYTHON=/path/to/python3 overrides it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv/bin/python
# More arguments for pytest: make test PYTEST_ARGS='-k journal'
PYTEST_ARGS ?=
# Smaller, or one database: make scale SCALE_ARGS='--backend sqlite --sqlite 100000'
SCALE_ARGS ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 13

demo: base ## a real workflow on this machine: killed halfway, run again, nothing done twice
	@$(VENV) examples/demo/run.py

fleet: ## three workers on PostgreSQL: one is killed, the others go on with its work
	@$(if $(PYTHON),$(PYTHON) -m scripts.environment postgres,$(no_python))
	@$(VENV) examples/fleet/run.py

test: environment ## every test, on every kind of store (servers: found, or private ones)
	@$(VENV) -m scripts.services run -- $(VENV) -m pytest -n 2 tests $(PYTEST_ARGS)

check: environment ## format, lint, types, import contracts, documentation
	@$(VENV) -m ruff format --check .
	@$(VENV) -m ruff check .
	@$(VENV) -m mypy
	@.venv/bin/lint-imports
	@$(VENV) -m scripts.services run -- $(VENV) -m pytest -q -n 2 tests/docs

bench: environment ## measure, beside the raw limit and the peers
	@$(VENV) -m scripts.services run --on-disk -- $(VENV) -m benchmarks all

scale: environment ## millions of executions: claim, page, estimate and show stay as fast as with 10,000
	@$(VENV) -m scripts.services run --on-disk -- $(VENV) -m benchmarks.scale $(SCALE_ARGS)

ring: environment ## 100,000 executions around all kinds of store, killed ten times on the way
	@$(VENV) -m scripts.services run -- $(VENV) -m pytest -v --ring=100000 \
		tests/conformance/test_ring.py -k killed

crash: environment ## a kill at every write boundary, power cuts, planted defects (long)
	@$(VENV) -m scripts.services run -- $(VENV) -m pytest tests/crash --crash=all -s $(PYTEST_ARGS)

chaos-short: environment ## the short form of the chaos tests, which is also part of test
	@$(VENV) -m scripts.services run -- $(VENV) -m pytest tests/chaos -s $(PYTEST_ARGS)

chaos: environment ## workers, connections, the network and the database break for hours (root for the network)
	@$(VENV) -m scripts.services run -- $(VENV) -m pytest tests/chaos --chaos=long -v -n 2 --dist worksteal $(PYTEST_ARGS)

services: environment ## start what the tests need, leave it running, print the settings
	@$(VENV) -m scripts.services start

environment:
	@$(if $(PYTHON),$(PYTHON) -m scripts.environment dev postgres mysql,$(no_python))

base:
	@$(if $(PYTHON),$(PYTHON) -m scripts.environment,$(no_python))

no_python = { echo 'Python 3.11 or newer is needed: apt-get install python3' >&2; exit 1; }
