# Two commands for a newcomer: `make demo` and `make test`. The rest is what CI runs, by the same names.
#
# PYTHON        the interpreter that .venv is made with (3.10 or newer)
# TORCH_SPEC    a pip requirement for PyTorch that is installed first, e.g. TORCH_SPEC="torch==2.13.0";
#               empty: whatever pip finds for this machine within the package's own range
# PYTEST_ARGS   more arguments for pytest, e.g. PYTEST_ARGS="tests/demo -x"
# TEST_WORKERS  processes that the tests are shared out to

PYTHON ?= python3
VENV ?= .venv
TORCH_SPEC ?=
PYTEST_ARGS ?=
TEST_WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-all lint types layers docs package clean

help:
	@echo "make demo      set up, track the bundled clip with the embedded weights, print J&F, write demo/"
	@echo "make test      set up, run the tests (under 3 minutes on 2 cores)"
	@echo "make test-all  the slow tests and those on real pictures (JOINTFORMER_SHARED, default ../shared)"
	@echo "make lint      ruff"
	@echo "make types     mypy"
	@echo "make layers    files import downwards only"
	@echo "make docs      the guides as a site in build/docs; a link or picture amiss stops it"
	@echo "make package   build the wheel, install it in a clean environment, import and run it there"
	@echo "make clean     remove .venv and everything that was built"

demo: $(VENV)/.installed
	$(BIN)/jointformer demo --output demo --overwrite

# Tests are for the CPU and for small tensors: files are shared out to processes of one thread each. In their own order:
# by size, files with many tests first, both processes compile the same kernels, and one waits for the other at the end.
test test-all: export OMP_NUM_THREADS ?= 1
test test-all: export CUDA_VISIBLE_DEVICES ?=
PYTEST := $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

test: $(VENV)/.installed-test
	$(PYTEST) --no-loadscope-reorder -m "not slow and not realdata" $(PYTEST_ARGS)

test-all: $(VENV)/.installed-test
	$(PYTEST) -m "slow or realdata" $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

# -W: any warning is a failure (links between pages, anchors, pictures); -E: all pages are read anew.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -E -W --keep-going -n -q -b html docs build/docs

# A clean environment without extras, and the checkout not on its path: what the wheel lacks is missed here first.
package: $(VENV)/.installed-dev
	rm -rf build/wheel build/clean
	$(PIP) wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m venv build/clean
	build/clean/bin/python -m pip --disable-pip-version-check install --quiet --no-compile $(if $(TORCH_SPEC),"$(TORCH_SPEC)") build/wheel/*.whl
	build/clean/bin/python -m pip --disable-pip-version-check check
	build/clean/bin/jointformer --version
	cd build && clean/bin/python -I ../tests/package_check.py

$(VENV)/.made:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: EXTRAS :=
$(VENV)/.installed-test: EXTRAS := [test]
$(VENV)/.installed-dev: EXTRAS := [dev]

$(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-dev: pyproject.toml $(VENV)/.made
	$(if $(TORCH_SPEC),$(PIP) install "$(TORCH_SPEC)")
	$(PIP) install --editable ".$(EXTRAS)"
	@touch $@

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
