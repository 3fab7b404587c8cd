# One environment, .venv, for every target; it is made on first use and kept while the lock,
# the Python and this folder stay the same.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed-from
PYTHON ?= $(shell test -x $(PY) && echo $(PY) || echo python3)
UV ?= uv

# The kernel comes from .venv, whatever kernels the user has.
unexport JUPYTER_PATH
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

# What stands on the command line becomes an option of the same name: DATA=mine is --data mine. A
# variable of the environment is none.
is_given = $(filter command,$(firstword $(origin $(1))))
GIVEN = $(strip $(foreach v,$(filter-out PYTHON UV VENV,$(.VARIABLES)),$(if $(call is_given,$v),--$v="$$$v")))
NUCLEI = $(PY) -m helpers.command

.DEFAULT_GOAL := help
.PHONY: help install start run predict experiment targets data lab test notebooks format lock clean

help: ## list the targets
	@echo "Targets (Python 3.11 to 3.13; name one with PYTHON=python3.12):"
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1|/p' Makefile | awk -F'|' '{printf "%-18s%s\n", $$1, $$2}'

install: ## make .venv from requirements.lock; nothing to do when it is up to date
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "$(PYTHON) is not on this machine: install Python 3.11, 3.12 or 3.13, or name one:" \
	    "make PYTHON=python3.12 ..." >&2; exit 1; }
	@version=$$("$(PYTHON)" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])') || \
	  { echo "$(PYTHON) does not start; name another: make PYTHON=python3.12 ..." >&2; exit 1; }; \
	case "$$version" in 3.11.*|3.12.*|3.13.*) ;; *) \
	  echo "$(PYTHON) is Python $$version, but 3.11, 3.12 or 3.13 is needed; name one:" \
	    "make PYTHON=python3.12 ..." >&2; exit 1;; esac; \
	test -f requirements.lock || \
	  { echo "requirements.lock is missing: get it back with git checkout requirements.lock" >&2; exit 1; }; \
	key="$$version $$(cksum < requirements.lock) $(CURDIR)"; \
	test "$$key" = "$$(cat $(STAMP) 2>/dev/null)" && exit 0; set -e; \
	echo "Installing into $(VENV) with Python $$version (some minutes, once) ..."; \
	base=$$("$(PYTHON)" -c 'import sys; print(sys._base_executable)'); \
	"$$base" -m venv --clear $(VENV); \
	$(PY) -m pip install -qq --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements.lock; \
	$(PY) -m pip install -qq --disable-pip-version-check --no-index --no-deps \
	  --no-build-isolation -e .; \
	echo "$$key" > $(STAMP)

start: install ## find nuclei on first images with the trained network (notebook 00)
	@$(NUCLEI) start $(GIVEN)

run: install ## train and test: DATA=folder-or-zip RUN=name SETTINGS=file EPOCHS=n ...; all: nuclei run --help
	@$(NUCLEI) run $(GIVEN)

predict: install ## find the nuclei of your own images: IMAGES=folder OUT=folder ...; all: nuclei predict --help
	@$(NUCLEI) predict $(GIVEN)

experiment: install ## why masks come out inverted (notebook 06): VARIANTS=names-or-all SEEDS=n ...
	@$(NUCLEI) experiment $(GIVEN)

targets: install ## how touching nuclei are separated (notebook 07): TARGETS=names ...
	@$(NUCLEI) targets $(GIVEN)

data: install ## download a published data set, as in NAME=bbbc038; without a name, list them
	@$(NUCLEI) data $(GIVEN)

lab: install ## open JupyterLab on notebooks/
	@$(NUCLEI) lab

# Two processes for two cores: the committed notebooks, then tests that train, beside all other
# tests. The notebooks share a run folder, so they stay in one process, in their order, and without
# progress bars, whose messages overflow what nbval can hold.
test: install ## lint, layers, unit tests, doctests and the committed notebooks with their solutions
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(VENV)/bin/lint-imports --no-cache --no-logo
	@export TQDM_DISABLE=1; { \
	  $(PY) -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider notebooks; pages=$$?; \
	  $(PY) -m pytest -p no:cacheprovider -m slow; exit $$((pages + $$?)); \
	} > .nbval.log 2>&1 & nbval=$$!; \
	trap 'kill $$nbval 2>/dev/null' INT TERM; \
	$(PY) -m pytest --cov=helpers -m "not slow" || unit=failed; \
	wait $$nbval || notebooks=failed; \
	cat .nbval.log; \
	test -z "$$unit" || echo "make test: the unit tests (first summary above) failed" >&2; \
	test -z "$$notebooks" || echo "make test: the notebooks or the tests that train failed" >&2; \
	test -z "$$unit$$notebooks"

notebooks: install ## run the committed notebooks in place, at their defaults
	@$(PY) tools/execute_notebooks.py

format: install ## put code and notebooks into the house format
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

lock: ## resolve requirements.lock anew from pyproject.toml (needs uv)
	@command -v $(UV) >/dev/null 2>&1 || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --no-strip-extras --fork-strategy fewest --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command 'make lock' --quiet --output-file requirements.lock

clean: ## remove .venv and caches; runs/, results/ and data/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .coverage .nbval.log *.egg-info
	find helpers tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
