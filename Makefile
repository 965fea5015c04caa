# `make demo` and `make test` need Python 3.10-3.12 (with venv, a package of its own on Debian) and make, nothing else:
# each sets up .venv first.
PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.10,$(shell python$(v) -c "print('python$(v)')" 2>/dev/null)) python3)
VENV   ?= .venv
IMAGE  ?= docs/images/lake.png
BIN    := $(VENV)/bin

.PHONY: demo test plugins lint types clean

demo: $(VENV)/.installed
	$(BIN)/glc demo $(IMAGE) -o demo -y

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile --no-loadscope-reorder  # else few but long tests come last

plugins: $(VENV)/.installed-test
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation ./plugins/*
	GLC_STRICT_PLUGINS=1 $(BIN)/pytest -q plugins
	GLC_STRICT_PLUGINS=1 $(BIN)/glc plugins check $(subst -,_,$(notdir $(wildcard plugins/*)))

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/basedpyright --pythonpath $(BIN)/python

.DELETE_ON_ERROR:  # a bin/python that venv could not finish would count as a .venv

$(VENV)/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))" \
	  || { echo "glc-toolkit needs Python 3.10, 3.11 or 3.12; say make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c "import ensurepip" 2>/dev/null \
	  || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo dist
