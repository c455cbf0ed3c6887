# Development tasks; `make` lists the targets.
# Targets that need .venv create it first, and update it when pyproject.toml or constraints.txt has changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that is new enough. PYTHON=/path/to/python chooses another.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
endif
# On Linux pip installs torch with CUDA by default, which takes several GB. For the CPU build, set
# TORCH_INDEX=<the CPU index URL from the install selector on pytorch.org>.
TORCH_INDEX ?=
# Number of test processes. Each uses one thread, because more would compete for the cores.
TEST_WORKERS ?= 2
# Extra arguments for run, test, viz, mlflow, jupyter and colab: make run ARGS="--env smoke"
ARGS ?=
# Port on which `make colab` listens.
PORT ?= 8888

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# No usage reports. MLflow accepts only the word "true".
export DO_NOT_TRACK := true
export KEDRO_DISABLE_TELEMETRY := true
export MLFLOW_DISABLE_TELEMETRY := true
# Without compiled modules, each test process would rewrite the assertions of all tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install run new-data abdomen test check coverage lint format docs bench fuzz soak gpu-check viz viz-site mlflow jupyter colab sbom clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  Variables: ARGS="…" (extra arguments)  PYTHON=…  TORCH_INDEX=… (a CPU-only torch)'

install: $(STAMP) ## Install everything into .venv, at the versions in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.11 or newer was found on PATH. Install one, or set its path:" \
		"make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is" \
		"$$($(PYTHON) --version 2>&1), but seg_pipeline needs Python 3.11 or newer" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot create virtual environments; on Debian and Ubuntu:" \
		"apt install python3-venv" >&2; exit 1; }
ifneq ($(TORCH_INDEX),)
	$(BIN)/pip install --no-deps -c constraints.txt --index-url $(TORCH_INDEX) torch torchvision
endif
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import cv2' || { echo "OpenCV found no graphics libraries; on Debian and Ubuntu:" \
		"apt install libgl1 libglib2.0-0 libxcb1" >&2; exit 1; }
	@touch $@

run: $(STAMP) ## Run all pipelines on the sample; ARGS="--env camvid" uses other data
	$(BIN)/kedro run $(ARGS)

new-data: $(STAMP) ## Set up your own data: make new-data FOLDER=PATH NAME=cells
	@[ -n "$(FOLDER)" ] && [ -n "$(NAME)" ] || { echo "Usage: make new-data FOLDER=PATH/TO/DATA NAME=cells" >&2; exit 1; }
	$(BIN)/seg-pipeline new-data "$(FOLDER)" "$(NAME)" $(ARGS)

# The hash pins the archive; the NOTICE written beside the data describes its licence and contents.
abdomen: $(STAMP) ## Download three public abdominal scans into data/01_raw/abdomen
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		echo 'totalsegmentator==2.13.0 --hash=sha256:c00ebc7f42cb02d0f7303a5d5672341a9e8117fe8f8bf07cdf0e6768dab7e9a6' \
			> $$folder/pinned.txt && \
		$(BIN)/pip download --no-deps --no-binary totalsegmentator --require-hashes -r $$folder/pinned.txt -d $$folder && \
		$(BIN)/python scripts/fetch_abdomen.py $$folder/totalsegmentator-2.13.0.tar.gz data/01_raw/abdomen

PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

ifeq ($(ARGS),)
test: lint ## Lint, type-check and test; ARGS="-k rle" runs only some tests
	$(PYTEST)
else
test: $(STAMP)
	$(PYTEST) $(ARGS)
endif

# Apart from `make test`, as measuring makes a test half as slow again. The quick tests alone must reach enough.
coverage: $(STAMP) ## Run the quick tests and require that they cover 90 % of segmentation
	$(PYTEST) -m "not slow" --cov=seg_pipeline --cov-report=term
	$(BIN)/coverage report --include='src/seg_pipeline/segmentation/*' --format=total --fail-under=90

check: lint ## Lint, type-check and run the quick tests, for work in progress
	$(PYTEST) -m "not slow" -q

lint: $(STAMP) ## Check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

format: $(STAMP) ## Fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(STAMP) ## Build the documentation site into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(STAMP) ## Run the benchmarks and write docs/reference/benchmarks.md
	$(BIN)/python benchmarks

gpu-check: $(STAMP) ## Test and measure training on a GPU, in about six minutes
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/gpu_check.sh

fuzz: $(STAMP) ## Read damaged files of every form, for minutes; ARGS="--mutants 200000" for longer
	$(BIN)/python -m tests.runs.fuzz $(ARGS)

soak: $(STAMP) ## Serve good and hostile clients at once for ten minutes; ARGS="--seconds 60" for less
	$(BIN)/python benchmarks/soak.py $(ARGS)

# Kedro-Viz looks up its newest version online and waits half a minute if nothing answers; with a closed port as proxy
# the request fails at once. The ignored warning concerns its use of FastAPI, which users cannot fix.
VIZ := HTTPS_PROXY=http://127.0.0.1:9 NO_PROXY=127.0.0.1,localhost PYTHONWARNINGS='ignore:ORJSONResponse is deprecated' \
	$(BIN)/kedro viz
viz: $(STAMP) ## Show the pipelines in a browser at 127.0.0.1:4141
	$(VIZ) run --host 127.0.0.1 $(ARGS)

viz-site: $(STAMP) ## Write the pipeline graph as a static site to build/viz; ARGS=--include-previews adds data
	$(VIZ) build $(ARGS)
	@rm -rf build/viz && mkdir build/viz
	@find build -mindepth 1 -maxdepth 1 ! -name docs ! -name viz -exec mv {} build/viz/ \;

mlflow: $(STAMP) ## Show the tracked runs in a browser at 127.0.0.1:5000
	MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
		$(BIN)/mlflow server --host 127.0.0.1 --backend-store-uri sqlite:///mlflow.db $(ARGS)

jupyter: $(STAMP) ## Open JupyterLab with the catalog loaded
	$(BIN)/kedro jupyter lab $(ARGS)

colab: $(STAMP) ## Use this machine from Google Colab; docs/how-to/jupyter.md explains the risks
	$(BIN)/kedro jupyter lab --no-browser --ip=127.0.0.1 --port=$(PORT) --ServerApp.port_retries=0 \
		--ServerApp.allow_origin=https://colab.research.google.com --ServerApp.allow_credentials=True $(ARGS)

sbom: $(STAMP) ## List the installed packages for scanners in build/sbom.json (CycloneDX)
	mkdir -p build
	$(BIN)/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-file build/sbom.json

clean: ## Remove caches and build outputs; keep data, runs and .venv
	rm -rf build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .viz
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -type d -prune -exec rm -rf {} +
