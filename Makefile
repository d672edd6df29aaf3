# Sets up its own .venv on a machine with Python 3.10+ and nothing else.
PYTHON ?= python3
BIN := .venv/bin
EXAMPLE := demo/example.png

.PHONY: demo test style
.DELETE_ON_ERROR:

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: .venv/ready
	$(BIN)/tadisr upscale $(EXAMPLE) -o demo/output --compare
	@echo "Before and after, side by side: $(CURDIR)/demo/output/example_compare.png"

test: .venv/ready-dev
	$(BIN)/python -m pytest

style: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
