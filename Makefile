# Every target sets up what it needs: a virtual environment in $(VENV), with the versions of constraints.txt.
# `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Folders and files whose tests are fast enough for `make quick`.
QUICK ?= tests/config tests/feedback tests/batch tests/objectives tests/cli/test_convert_command.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test pytest test-many quick campaign claims claims-quick docs release extras format lint types clean

# Tests start many interpreters: what one of them has compiled, the others read.
export PYTHONDONTWRITEBYTECODE :=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## make the virtual environment and install trueup into it

# torch goes first and alone, so that a build for the CPU is taken where the package registry offers one.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "trueup needs Python 3.11 or newer; choose one with: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
		{ echo "no virtual environment could be made; on Debian and Ubuntu, install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
		"$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## align a small model several ways and print a table of results
	$(BIN)/trueup demo

test: lint  ## format check, lint, types, every test
	$(MAKE) --no-print-directory -j 2 types pytest

pytest: $(READY)  ## every test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not many"

test-many: $(READY)  ## the tests that `make test` leaves out, as others try much the same
	$(BIN)/python -m pytest -n 2 --dist worksteal -m many tests

quick: lint  ## format check, lint and the fast tests, in half a minute
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(wildcard $(QUICK))

# The counts are written in any case; a part that found a fault makes the target fail.
SECONDS ?= 600
SEED ?= 1
campaign: $(READY)  ## try all that may go wrong, for SECONDS a part, and count it in docs/reliability.md
	$(BIN)/python benchmarks/campaign/run.py --seconds $(SECONDS) --seed $(SEED) \
		--output benchmarks/campaign/result.json; found=$$?; \
		$(BIN)/python benchmarks/campaign/run.py --page > docs/reliability.md && exit $$found

# Every run is a line of runs/claims/journal.jsonl: what was stopped goes on, and what was made is not made again.
CLAIMS ?= offline oaif trust_region trust_region_fresh trust_region_larger rrhf pointwise real_text
claims: $(READY)  ## put the papers' claims to the test, in hours on one core, and write docs/claims; goes on where it was stopped
	for claim in $(CLAIMS); do $(BIN)/python benchmarks/claims/$$claim.py || exit 1; done

claims-quick: $(READY)  ## a small version of it, in some minutes, into runs/claims-quick
	for claim in $(CLAIMS); do $(BIN)/python benchmarks/claims/$$claim.py --quick runs/claims-quick || exit 1; done

docs: $(READY)  ## build the site of docs/ into site/, which opens from disk, and check its links
	$(BIN)/zensical build --clean --strict

# An environment of its own for what is installed as users install it; `$(call installed,WHAT,OPTIONS)` has WHAT and nothing else.
TRY := build/environment
installed = rm -rf $(TRY) && $(PYTHON) -m venv $(TRY) && \
	$(TRY)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)" && \
	$(TRY)/bin/pip install --quiet --disable-pip-version-check $(2) "$(1)" && cd $(TRY)

release: $(READY)  ## build wheel and sdist, install each in an environment of its own and run the demo there
	rm -rf dist && $(BIN)/python -m hatchling build
	for built in dist/*; do ( $(call installed,$$built,-c constraints.txt) && bin/trueup demo ) || exit 1; done

# Without the versions of constraints.txt, which are those of tests. vllm brings several GB and is left out: EXTRAS=vllm.
EXTRAS ?= data gpu judge labelling quantize ray report tensorboard trackio wandb
extras: $(READY)  ## install each extra alone, and run a command that needs it
	rm -rf dist && $(BIN)/python -m hatchling build -t wheel
	for extra in $(EXTRAS); do \
		( $(call installed,$$(echo dist/*.whl)[$$extra]) && bin/python $(CURDIR)/tests/support/extras.py $$extra ) || exit 1; done

format: $(READY)  ## format the code, and mend what the linter can mend
	$(BIN)/ruff check --fix src tests benchmarks docs
	$(BIN)/ruff format src tests benchmarks docs

lint: $(READY)  ## check format and style
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs

types: $(READY)  ## check types
	$(BIN)/mypy

clean:  ## remove the virtual environment and every cache
	test ! -f $(VENV)/pyvenv.cfg || rm -rf $(VENV)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site .cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
