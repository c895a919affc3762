# Two commands are enough on a machine that has only Python (3.11 or later) and make:
#   make demo   create the environment, install, train the 64-node network beside backprop
#   make test   create the environment, install, lint, check types, run the tests
# Further: make bench (our own benchmarks), make bench-peers (beside FabricPC, PCX and plain JAX,
# each in its own environment).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow bench bench-peers lint clean

demo: $(INSTALLED)
	$(BIN)/fathomx compare

test: $(INSTALLED) lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python benchmarks/equilibrium.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/convolution.py
	$(BIN)/python benchmarks/rescaling.py
	$(BIN)/python benchmarks/floor.py
	$(BIN)/python benchmarks/feedback.py

bench-peers: $(INSTALLED)
	$(BIN)/python benchmarks/peers

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV)
