# Every target sets up by itself: `.venv` is made on first use and brought up to date when pyproject.toml changes.

PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$candidate"; break; }; \
	done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

CREATED := $(VENV)/.stamp-created
READY := $(VENV)/.stamp-ready
BENCH_READY := $(VENV)/.stamp-bench

.PHONY: setup demo test test-slow lint bench docs clean

setup: $(READY) $(BENCH_READY)

$(CREATED):
	@test -n "$(PYTHON)" || { echo "Scanlore needs Python 3.11 or newer and none was found: \
	install one, or name it with 'make PYTHON=/path/to/python3.11'" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "'$(PYTHON)' is not a working \
	Python 3.11 or newer: name one with 'make PYTHON=/path/to/python3.11'" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(READY): pyproject.toml | $(CREATED)
	$(PIP) -e '.[demo,tracking,docs,dev]'
	@touch $@

$(BENCH_READY): pyproject.toml | $(READY)
	$(PIP) -e '.[bench]'
	@touch $@

demo: $(READY)
	$(BIN)/scanlore demo --out demo

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint docs
	$(BIN)/pytest -m 'not slow'

test-slow: $(READY)
	$(BIN)/pytest -m slow

bench: $(READY) $(BENCH_READY)
	@set -e; for script in views affine_view training sparse prediction startup; do \
		echo "== $$script"; $(BIN)/python benchmarks/$$script.py; \
	done

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf demo site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find src tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
