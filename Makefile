# Everything here needs only Python 3.11 or newer, with its venv module; `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
# Nothing here reports to anybody.
export MLFLOW_DISABLE_TELEMETRY ?= true
export HF_HUB_DISABLE_TELEMETRY ?= 1

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 5000
# Test files side by side; more than four want more memory than most machines have. One thread each: two would wait for each other.
JOBS ?= $(shell n=$$(nproc 2> /dev/null || echo 2); echo $$((n < 4 ? n : 4)))
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip
UV := $(BIN)/uv
say = @printf '\n\033[1m== %s\033[0m\n' '$(1)'

.PHONY: help demo test check ui report format lock clean venv up down reproduce-docker test-docker test-faults fuzz

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.bort ## Fetch a teacher, a corpus and a task, and run the whole chain on them (10 minutes on two cores)
	$(call say,The demo fetches its teacher and its texts)
	@$(BIN)/bort fetch
	$(call say,The demo runs the whole chain)
	@$(BIN)/bort reproduce experiment=demo

test: $(VENV)/.bort ## Run everything that must hold: format, lint, types, all tests with coverage
	$(call say,Format (ruff format))
	@$(BIN)/ruff format --check .
	$(call say,Lint (ruff check))
	@$(BIN)/ruff check .
	$(call say,Types (mypy; strict on bort))
	@$(BIN)/mypy
	$(call say,Tests (pytest with coverage))
	@$(PYTEST) --durations=10 --cov --cov-report=term:skip-covered

check: $(VENV)/.bort ## Run the quick part of the tests: format, lint, types, the fast tests
	$(call say,Format and lint and types)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	$(call say,The fast tests)
	@$(PYTEST) -m "not slow"

fuzz: $(VENV)/.bort ## Feed every reader of outside input 100,000 changed inputs (some 20 minutes of processor time)
	@$(BIN)/python -m tests.fuzz

ui: $(VENV)/.bort ## Open the recorded runs in MLflow, and the newest study in Optuna's dashboard (another port: make ui PORT=5100)
	@$(BIN)/bort ui --port $(PORT)

report: $(VENV)/.bort ## Draw the demo's report again from its recorded results
	@$(BIN)/bort report experiment=demo

# What the containers do is said in docs/docker.md. Variables: WORKERS, S3=1, GPU=1, and those of docker/compose.yaml.
COMPOSE := docker compose --file docker/compose.yaml $(if $(GPU),--file docker/compose.gpu.yaml) $(if $(S3),--profile s3)
export BORT_S3 ?= $(S3)
ifdef S3
export BORT_ARTIFACTS ?= s3://mlflow
endif

up: ## Build the image and start PostgreSQL, MLflow and Optuna's dashboard in containers; with WORKERS=2 also two search workers
	@docker/secrets.sh docker/secrets
	@$(if $(WHEELS),docker build --file docker/Dockerfile --target bort --build-context wheels=$(WHEELS) \
		--build-arg BASE_IMAGE=$${BASE_IMAGE:-python:3.11-slim-bookworm} --tag bort:$${BORT_TAG:-0.1.0} .,$(COMPOSE) $(if $(GPU),--profile search) build)
	@$(COMPOSE) up --detach --wait postgres init mlflow dashboard $(if $(S3),s3)
	@$(if $(WORKERS),$(COMPOSE) --profile search up --detach --no-build --scale search=$(WORKERS) search)
	@echo "MLflow: http://127.0.0.1:$${BORT_MLFLOW_PORT:-5000}/  Optuna: http://127.0.0.1:$${BORT_DASHBOARD_PORT:-8080}/"
	@$(if $(WORKERS),echo "What the workers say: docker compose --file docker/compose.yaml logs --follow search")

reproduce-docker: up ## Run the demo's chain in containers, with two search workers beside it (others: WORKERS=N)
	@$(COMPOSE) --profile search --profile reproduce up --detach --no-build --scale search=$(or $(WORKERS),2) search reproduce
	@$(COMPOSE) logs --follow --no-log-prefix reproduce & $(COMPOSE) wait reproduce
	@mkdir -p outputs/docker && $(COMPOSE) cp reproduce:/var/lib/bort/outputs/. outputs/docker
	@echo "What the chain left: outputs/docker"

down: ## Stop the containers; databases, artifacts and results stay in their volumes
	@$(COMPOSE) --profile search --profile reproduce --profile s3 down

test-faults: $(VENV)/.bort ## Kill, cut off, fill up and damage at full size; figures in outputs/faults.json (about 30 minutes)
	@$(BIN)/python -m tests.faults all

test-docker: ## Bring all of it up, kill a worker, take it down and up again (needs an engine; 5 to 10 minutes, 3 GB)
	@"$(PYTHON)" tests/docker/check_fleet.py

format: $(VENV)/.bort ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

venv: $(VENV)/.bort ## Make .venv with every locked package, once; again when the lock changes

clean: ## Remove the environment and the tools' caches; outputs/ and .cache/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch stands apart: the same pin takes the CPU build where pip has one at hand and the CUDA build elsewhere, and their
# digests differ. What only torch's CUDA build needs comes with it and is left out of the lock.
COMPILE = $(UV) --quiet pip compile --universal --python-version 3.11 --constraint constraints.txt --custom-compile-command "make lock"
lock: $(VENV)/.bort ## Resolve the locks of the environment and of the image anew, within constraints.txt
	@apart=$$($(COMPILE) --no-annotate --all-extras pyproject.toml \
		| sed -nE 's/^(torch|triton|(cuda|nvidia)-[a-z0-9-]+)==.*/--no-emit-package \1/p'); \
	$(COMPILE) --upgrade --generate-hashes --all-extras $$apart pyproject.toml --output-file $(VENV)/requirements.txt > /dev/null
	@echo uv | $(COMPILE) --upgrade --generate-hashes - --output-file $(VENV)/requirements-uv.txt > /dev/null
	@mkdir -p $(VENV)/docker
	@$(COMPILE) --generate-hashes --extra export --extra ui --extra postgres --constraint $(VENV)/requirements.txt \
		$$(sed -nE 's/^# ((torch|triton|(cuda|nvidia)-[a-z0-9-]+))$$/--no-emit-package \1/p' $(VENV)/requirements.txt) \
		pyproject.toml --output-file $(VENV)/docker/requirements.txt > /dev/null
	@echo 'boto3>=1.40' | $(UV) --quiet pip compile --universal --python-version 3.11 --custom-compile-command "make lock" --upgrade \
		--generate-hashes - --output-file $(VENV)/docker/requirements-s3.txt > /dev/null
	@for lock in requirements.txt requirements-uv.txt docker/requirements.txt docker/requirements-s3.txt; do \
		cmp -s $(VENV)/$$lock $$lock || cp $(VENV)/$$lock $$lock; done
	@grep -c '==' requirements.txt | sed 's/$$/ packages locked in requirements.txt/'

# An interrupted installation leaves no stamp and so starts over from nothing.
$(VENV)/.packages: requirements.txt requirements-uv.txt constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
		echo "Bort needs Python 3.11 or newer; $$("$(PYTHON)" --version 2> /dev/null || echo none) was found. Name one: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "$(PYTHON) lacks its venv module: install it (Debian, Ubuntu: apt install python3-venv) and try again." >&2; \
		exit 1; }
	$(call say,Making $(VENV) (once; about 2 GB))
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@echo "1/3 installer"
	@$(PIP) install -qq --require-hashes -r requirements-uv.txt
	@echo "2/3 $$(grep -c '==' requirements.txt) locked packages"
	@$(UV) pip install --python $(BIN)/python --require-hashes --no-deps -r requirements.txt 2>&1 | { grep -v '^ [+~-] ' || true; } \
		|| { echo "uv could not; pip tries, which takes some minutes"; $(PIP) install -qq --require-hashes --no-deps -r requirements.txt; }
	@echo "3/3 torch"
	@$(PIP) install --constraint constraints.txt torch 2>&1 | { grep -E '^ *(Downloading|Installing|ERROR)' || true; }
	@touch $@

$(VENV)/.bort: $(VENV)/.packages pyproject.toml
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@$(PIP) check > /dev/null || { $(PIP) check; exit 1; }
	@touch $@
