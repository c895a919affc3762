# Two commands are enough on a machine that has only Python (3.11 or later) and make:
#   make demo   create the environment, install, train the 64-node network beside backprop
#   make test   create the environment, install, lint, check types, run the tests
# Further: make bench (our own benchmarks), make bench-peers (beside FabricPC, PCX, JPC and plain JAX,
# each in its own environment), make test-oldest and make test-newest (the fast tests with the lowest
# versions that pyproject.toml promises, and with the newest that exist), make test-wheel (what is
# installed works outside of the checkout), make docs (this documentation as a site, build/site/index.html,
# links checked), make notebooks (runs those that have changed; docs does, too), make torture (hours of kills, damages and wrong input).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The demonstration needs a small part of that, and takes all of it where it is there.
DEMO := $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(VENV)/.demo)
# What uv is asked for: a version, which it finds or downloads, or a path; pyenv's is found too.
python = $(or $(shell pyenv prefix $(1) 2>/dev/null),$(1))
OLDEST_PYTHON ?= $(call python,3.11)
NEWEST_PYTHON ?= $(call python,3.13)
# `make test-newest TESTS=tests/graph` runs one folder of them.
TESTS ?=
FAST_TESTS = -m pytest -n 2 --dist loadfile -m "not slow" $(TESTS)

.PHONY: docs notebooks demo test test-slow test-oldest test-newest test-wheel torture bench bench-peers lint clean

demo: $(DEMO)
	$(BIN)/fathomx compare

test: $(INSTALLED) lint
	$(BIN)/python $(FAST_TESTS)

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

test-oldest: $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python "$(OLDEST_PYTHON)" .venv-oldest
	$(BIN)/uv pip install --python .venv-oldest --resolution lowest-direct -e ".[test]"
	.venv-oldest/bin/python $(FAST_TESTS)

test-newest: $(BIN)/uv
	@if $(BIN)/uv venv --quiet --clear --python "$(NEWEST_PYTHON)" .venv-newest; then \
	  $(BIN)/uv pip install --python .venv-newest --upgrade -e ".[test]" && \
	  .venv-newest/bin/python $(FAST_TESTS); \
	else \
	  echo "test-newest was skipped: name a newer Python with NEWEST_PYTHON=/path/to/python"; \
	fi

test-wheel: $(BIN)/uv
	tests/versions/wheel $(abspath $(BIN)/uv)

notebooks: $(INSTALLED)
	$(BIN)/python docs/site/execute.py $(NOTEBOOKS)

docs: notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "python -m http.server --directory build/site shows it at http://localhost:8000"

torture: $(INSTALLED)
	$(BIN)/python tests/torture

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
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/feedback.py

bench-peers: $(INSTALLED)
	$(BIN)/python benchmarks/peers

$(INSTALLED): EXTRA = dev
$(VENV)/.demo: EXTRA = figures
$(INSTALLED) $(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRA)]"
	touch $@

$(BIN)/uv: | $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "uv>=0.8"

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest
