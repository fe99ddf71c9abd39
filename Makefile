# Two commands for a newcomer: `make quickstart` and `make test`. Each makes the environment if it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test lint benchmark base clean

quickstart: $(VENV)/.ready
	$(BIN)/dsmooth quickstart $(ARGS)

test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .

# The study behind the README's table: hours on two cores, resumable.
benchmark: $(VENV)/.ready
	$(BIN)/dsmooth compare benchmarks/sharpening.yaml --output runs/sharpening

# The shipped base model, made again.
base: $(VENV)/.ready
	$(BIN)/dsmooth base --output runs/base

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
