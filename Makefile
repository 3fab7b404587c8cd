# One environment, .venv, for every target; it is made on first use and kept while the lock,
# the Python and this folder stay the same.
SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed-from
PYTHON ?= $(shell test -x $(PY) && echo $(PY) || echo python3)
UV ?= uv

# The kernel comes from .venv, whatever kernels the user has; TensorFlow's start-up log stays out
# of the notebooks.
unexport JUPYTER_PATH
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Linux's C library gives freed memory back, and every training step asks for it again; kept, a
# step is faster. Other systems ignore these. TensorFlow takes oneDNN's convolutions by itself only on
# some processors; they are faster on others too. Both: benchmarks/environment.py.
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TOP_PAD_ ?= 268435456
export MALLOC_TRIM_THRESHOLD_ ?= 68719476736
export TF_ENABLE_ONEDNN_OPTS ?= 1

# Parameters of `make run` and `make experiment`; only what stands on the command line is passed on.
export DATA SETTINGS RUN SEED EPOCHS STEPS TEST_MODALITIES TEST_SET LEFT_OUT VARIANTS SEEDS \
	IMAGES OUT PATTERN DIAMETER PIXEL_SIZE START_FROM TARGETS
given = $(if $(filter command,$(origin $(1))),$(2) "$$$(1)")
SERIES = $(if $(call given,SETTINGS),--settings "$$SETTINGS",--settings settings/quick.json) \
	$(call given,RUN,--run) $(call given,DATA,--data) $(call given,SEED,--seed) \
	$(call given,EPOCHS,--parameter epochs) $(call given,STEPS,--parameter steps)

MAIN = 01,02,03,04,05
EXPERIMENT = 01,06
NUCLEI = 01,07

.DEFAULT_GOAL := help
.PHONY: help install start run experiment nuclei predict test lab data notebooks format lock clean

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

# Its output stays out of the runs that are kept; RUN is whose network answers, as for `predict`.
start: install ## run notebook 00: the trained network that comes along, on first images, also RUN=name
	@$(PY) -m helpers.series --only 00 --run quick_start $(call given,RUN,--parameter network)

run: install ## run the notebooks: DATA=folder-or-zip SETTINGS=file RUN=name SEED=n EPOCHS=n STEPS=n TEST_MODALITIES=names TEST_SET=folder-or-zip LEFT_OUT=ids START_FROM=run
	@$(PY) -m helpers.series --only $(MAIN) $(SERIES) \
	  $(call given,TEST_MODALITIES,--parameter test_modalities) \
	  $(call given,TEST_SET,--parameter test_set) $(call given,LEFT_OUT,--parameter left_out) \
	  $(call given,START_FROM,--parameter start_from)

experiment: install ## run notebook 06, also with VARIANTS=names-or-all SEEDS=n: why masks come out inverted
	@$(PY) -m helpers.series --only $(EXPERIMENT) $(SERIES) \
	  $(call given,VARIANTS,--parameter variants) $(call given,SEEDS,--parameter seeds)

nuclei: install ## run notebook 07, also with TARGETS=names: how touching nuclei come apart
	@$(PY) -m helpers.series --only $(NUCLEI) $(SERIES) $(call given,TARGETS,--parameter targets)

predict: install ## find every nucleus of your own images: IMAGES=folder OUT=folder, also RUN=name PATTERN=glob DIAMETER=px PIXEL_SIZE=um OVERWRITE=yes
	@test -n "$$IMAGES" -a -n "$$OUT" || { \
	  echo "make predict needs a folder of images and one for the results:" \
	    "make predict IMAGES=folder OUT=folder" >&2; exit 2; }
	@$(PY) -m helpers.segment.command "$$IMAGES" --output "$$OUT" $(call given,RUN,--run) \
	  $(call given,PATTERN,--pattern) $(call given,DIAMETER,--diameter) \
	  $(call given,PIXEL_SIZE,--pixel-size) $(if $(OVERWRITE),--overwrite)

# The committed notebooks run beside the unit tests: two processes for two cores. The notebooks
# share a run folder, so they stay in one process, in their order, and without progress bars, whose
# messages overflow what nbval can hold.
test: install ## lint, unit tests, doctests, a reduced series and the committed notebooks
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	@TQDM_DISABLE=1 $(PY) -m pytest --nbval-lax --nbval-current-env -p no:cacheprovider notebooks \
	  > .nbval.log 2>&1 & nbval=$$!; \
	trap 'kill $$nbval 2>/dev/null' INT TERM; \
	$(PY) -m pytest --cov=helpers || unit=failed; \
	wait $$nbval || notebooks=failed; \
	cat .nbval.log; \
	test -z "$$unit" || echo "make test: the unit tests (first summary above) failed" >&2; \
	test -z "$$notebooks" || echo "make test: the committed notebooks failed" >&2; \
	test -z "$$unit$$notebooks"

lab: install ## open JupyterLab on notebooks/
	@$(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

data: install ## download the nuclei of the Data Science Bowl 2018 (BBBC038, 83 MB)
	@$(PY) -m helpers.data.download

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

clean: ## remove .venv and caches; results/ and data/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .coverage .nbval.log *.egg-info
	find helpers tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
