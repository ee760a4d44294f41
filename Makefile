PYTHON ?= python3
BIN := .venv/bin
CORPUS ?= .bench/corpus
PEERS ?= .bench/peers

.PHONY: setup demo demo-images test test-all lint bench clean

setup: .venv/ready

.venv/ready: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip setuptools wheel
	# Before what needs it, so that the build for CPUs is taken where the index has one.
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[images,clip,embeddings,lm,train,languages,tokens,remote,ray,beam,test,lint]'
	# KenLM compiles; without it, what needs it says so, and its tests are skipped.
	-$(BIN)/pip install --quiet --constraint constraints.txt 'kenlm>=0.3.0'
	# fasttext and fasttext-predict, which language identification depends on, share a module name:
	# the one that can train has to be written last.
	$(BIN)/pip install --quiet --force-reinstall --no-deps --constraint constraints.txt fasttext
	touch $@

demo: setup
	$(BIN)/python docs/demo/collect.py demo-run/input
	cp docs/demo/text.yaml demo-run/job.yaml
	$(BIN)/thresher run demo-run/job.yaml

demo-images: setup
	$(BIN)/python docs/demo/images.py demo-run/images

test: setup
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy schemas filters scorers pipeline jobs

# make bench OPTIONS=--quick takes samples.
bench: setup
	$(BIN)/python benchmarks/corpus.py $(CORPUS)
	$(BIN)/python benchmarks/peers/setup.py $(PEERS)
	$(BIN)/python benchmarks/all.py --corpus $(CORPUS) --peer-python $(PEERS)/bin/python $(OPTIONS)

clean:
	rm -rf .venv demo-run build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
