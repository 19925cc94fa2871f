# `make demo` trains an agent and shows what it learnt; `make test` runs lint, types and tests.
# Both set up .venv first if it is not there, the first with what running needs, the second with what testing needs.

PYTHON ?= python3
SEED ?= 0

BIN := .venv/bin
RUNS := .venv/.runs
INSTALLED := .venv/.installed

.PHONY: demo docs wheel test test-fast test-all fuzz soak bench clean

demo: $(RUNS)
	$(BIN)/kilolayer demo --seed $(SEED)

# Before every merge (12 to 16 minutes on 2 cores): lint, types, and every test that is not slow.
test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# While writing: lint, types, and tests of what a change breaks most often, few of which train.
FAST := tests/test_architecture.py tests/objectives tests/data tests/runs tests/policies \
	tests/nn/test_torso_registry.py tests/agents/test_agent_registry.py tests/agents/test_optimizers.py tests/cli/test_own_parts.py
test-fast: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(FAST)

# Every night: the slow tests too, compiled as a user's programs are (tests/conftest.py), and more random inputs.
test-all: test
	KILOLAYER_TESTS_COMPILE=fully $(BIN)/pytest -m slow --ignore=tests/fuzz
	$(MAKE) fuzz CASES=50

# Random inputs of every kind, CASES of each, from case FIRST on; a case that fails is found again by its number.
CASES ?= 1000
FIRST ?= 0
fuzz: $(INSTALLED)
	KILOLAYER_FUZZ_CASES=$(CASES) KILOLAYER_FUZZ_FIRST=$(FIRST) $(BIN)/pytest -m "slow or not slow" tests/fuzz

# An hour of training and fifty loads in one process: the memory that they hold stays as it is.
soak: $(INSTALLED)
	$(BIN)/python tests/soak.py soak.csv
	$(BIN)/pytest -n 0 -m slow -k fifty tests/training/test_memory_of_many_runs.py

bench: $(INSTALLED)
	$(BIN)/kilolayer bench replay --against naive
	$(BIN)/kilolayer bench step --against naive
	$(BIN)/kilolayer bench compile --depths 4,256,1024 --against naive --naive-depths 4,256
	$(BIN)/kilolayer bench act
	$(BIN)/kilolayer bench env

# The documentation site, in build/docs; warnings and links between pages that lead nowhere are errors.
docs: $(INSTALLED)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs build/docs
	$(BIN)/python docs/check_links.py build/docs

# The wheel and the source distribution, in dist/. The wheel is installed in a clean environment, and used from a folder
# that is not the repository.
wheel: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) tests/check_wheel.py dist constraints.txt

$(RUNS): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(INSTALLED): $(RUNS)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

clean:
	rm -rf .venv build dist
