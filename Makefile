# Two commands: `make demo` and `make test`. Everything is made in .venv and demo/.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: demo test lint verify-whisper clean

.venv/base: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "analyzer needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e .
	touch $@

.venv/tests: .venv/base
	$(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[test]'
	touch $@

## The main job on the sample recordings: scores, outcomes, report. One file of the sample is broken on purpose (exit status 1).
demo: .venv/base
	mkdir -p demo
	$(BIN)/analyzer batch recordings_sample --store sqlite:///demo/analyzer.db --asr auto --jobs 2 \
	    --outcomes recordings_sample/outcomes.csv --window-days 30 --adjust queue --report demo/report.html || [ $$? -eq 1 ]
	@echo "report: $(CURDIR)/demo/report.html"

## Lint, types and all tests.
test: .venv/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

## On a connected machine: fetches a real small Whisper, transcribes the samples, prints word error rates.
verify-whisper: .venv/tests
	$(BIN)/python benchmarks/verify_whisper.py

clean:
	rm -rf .venv demo dist
