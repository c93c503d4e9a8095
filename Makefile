# Each target makes .venv from the lock file if it is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install smoke demo demo-full demo-figure test pytest test-long lint style types clean

install: $(STAMP)

$(STAMP): requirements/lock.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "distill needs Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) requirements/install.py $(VENV)
	@touch $(STAMP)

smoke: $(STAMP)
	$(BIN)/distill sweep gin/sweeps/smoke.toml --out=runs/smoke
	$(BIN)/python -m distill.sweep.demo runs/smoke

demo: $(STAMP)
	$(BIN)/distill sweep gin/sweeps/demo.toml --out=runs/demo
	$(BIN)/python -m distill.sweep.demo runs/demo

demo-full: $(STAMP)
	$(BIN)/distill sweep gin/sweeps/demo_full.toml --out=runs/demo-full
	$(BIN)/python -m distill.sweep.demo runs/demo-full

# Trains the demo, or reads its finished runs again.
demo-figure: demo
	cp runs/demo/figure.svg docs/figures/demo.svg

# Two processes, each with whole files: fixtures of a file are made once, and memory stays bounded.
# tests/conftest.py puts long files first; xdist's own order would put them last.
# If a process dies, the tests end and name what it ran; pytest-xdist would wait for ever.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

# mypy uses one core for a minute, so the tests begin meanwhile.
test: style
	@$(MAKE) --no-print-directory --jobs=2 types pytest

pytest: $(STAMP)
	$(PYTEST)

# Slow tests too, and ten times as many examples of the fuzz tests, of another seed each time.
test-long: lint
	DISTILL_FUZZ=long $(PYTEST) -m "slow or not slow"

lint: style types

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
