# Every target sets up what it needs. Two commands do everything: make demo, make test.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo
# Tests run in this many processes; -n 0 where a debugger is wanted.
PROCESSES := 2
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES) --no-loadscope-reorder

.PHONY: setup demo test test-all check lint types imports bench bench-docs bench-table bench-gpu badinput chaos weights clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
		|| { echo "Aviaflow needs Python 3.11 or 3.12; say where it is: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/aviaflow demo $(DEMO)

test: $(READY)
	$(PYTEST) -m "not slow and not gpu and not chaos"

test-all: $(READY)
	$(PYTEST)

check: lint types imports test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

chaos: $(READY)
	$(BIN)/python -m tests.chaos

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

# The figures of the documentation: where nothing else runs.
bench-docs: $(READY)
	$(BIN)/python -m tests.benchmarks --out docs/benchmarks/cpu.json; $(BIN)/python -m tests.benchmarks.table

bench-table: $(READY)
	$(BIN)/python -m tests.benchmarks.table

bench-gpu: $(READY)
	$(BIN)/python -m tests.benchmarks.gpu

badinput: $(READY)
	$(BIN)/python -m tests.badinput

WEIGHTS := $(BIN)/python -m flows.training.embedded --work build/weights
weights: $(READY)
	$(WEIGHTS)
	$(WEIGHTS) --single-frame --clips 5000
	$(WEIGHTS) --config configs/train_continue.yaml --seed 3000 --cameras 100 --initial model/weights/slowfast_small.safetensors
	$(WEIGHTS) --config configs/train_continue.yaml --seed 4000 --cameras 100 --clips 8000 --initial model/weights/slowfast_small.safetensors
	$(WEIGHTS) --config configs/train_continue.yaml --seed 6000 --cameras 100 --clips 12000 --initial model/weights/slowfast_small.safetensors
	$(BIN)/aviaflow train-refiner --work build/weights --out model/weights/slowfast_small.refiner.safetensors --threads 1
	$(BIN)/aviaflow train-detector --data build/weights/train-1000 --test build/weights/test --out model/weights/crane_detector.safetensors

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
