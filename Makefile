# The door for people and for CI. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/cachesvc/v1/*.proto)
# Compiling a model takes torch; the pin keeps pip from moving to another build on every set-up. Where
# PyPI's build brings CUDA that is not wanted: make setup TORCH_INDEX=<index with CPU builds>
TORCH ?= torch==2.13.0
TORCH_INDEX ?=

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.ready ## Create .venv, install everything, compile the default model

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "cachesvc needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet '$(TORCH)' $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --editable '.[compile,dev]'
	$(BIN)/cachesvc compile-model
	@touch $@

.PHONY: demo
demo: setup ## Watch the service answer a stream of real prompts
	$(BIN)/python -m bench.demo $(ARGS)

.PHONY: run
run: setup ## Run the server in the foreground (CONFIG=file)
	$(BIN)/cachesvc serve $(if $(CONFIG),--config $(CONFIG))

.PHONY: test
test: setup ## Run the tests (ARGS="-k name")
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-slow
test-slow: setup ## The tests that take longest, which make test leaves out
	$(BIN)/python -m pytest -m slow $(ARGS)

.PHONY: test-crash
test-crash: setup ## Kill the server at every failpoint and at random; fail every write and sync
	$(BIN)/python -m pytest -m "" tests/crash tests/trouble/test_kill.py tests/store/test_lmdb_eio.py $(ARGS)

.PHONY: test-mutants
test-mutants: setup ## Show that the tests find every bug of a table
	$(BIN)/python -m tests.mutants.run $(ARGS)

.PHONY: soak
soak: setup ## Minutes of everything at once (ARGS="--minutes 10")
	$(BIN)/python -m bench.soak $(ARGS)

.PHONY: overload
overload: setup ## Ten times more than it can do (ARGS=--quick)
	$(BIN)/python -m bench.overload $(ARGS)

.PHONY: bench-stores
bench-stores: setup ## Durable stores a second beside their floors (ARGS="--layout 10000": bytes of an entry)
	$(BIN)/python -m bench.stores $(ARGS)

.PHONY: deploy-check
deploy-check: setup ## Validate everything in deploy/
	$(BIN)/python -m pytest tests/deploy $(ARGS)

.PHONY: test-power
test-power: setup ## Replay 1,200 power losses for each durability
	POWER_IMAGES=1200 $(BIN)/python -m pytest tests/power $(ARGS)

.PHONY: check
check: setup ## Lint, types, import floors, protos, generated code and documents up to date
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
	  && $(MAKE) --no-print-directory generate OUT="$$fresh" \
	  && diff -r -x __init__.py -x __pycache__ "$$fresh/cachesvc/v1" cachesvc/v1 \
	  || { echo "cachesvc/v1 is not what protos/ gives: run make proto" >&2; exit 1; }
	$(BIN)/python docs/tables.py --check README.md docs/reliability.md docs/trust.md

.PHONY: fix
fix: setup ## Mend what check finds where that is mechanical
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/buf format --write protos
	$(MAKE) --no-print-directory proto
	$(BIN)/python docs/tables.py README.md docs/reliability.md docs/trust.md
	$(BIN)/python deploy/grafana/make_dashboard.py
	$(BIN)/python deploy/helm/make_schema.py
	cp deploy/prometheus/alerts.yaml deploy/helm/cachesvc/files/alerts.yaml

.PHONY: proto
proto: setup ## Regenerate cachesvc/v1 from protos/
	@$(MAKE) --no-print-directory generate OUT=.

.PHONY: generate
generate:
	@$(BIN)/python -m grpc_tools.protoc -I protos \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(OUT) --grpc_python_out=$(OUT) --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) $(PROTOS)

.PHONY: bench
bench: setup ## Measure against the floors and the peers (ARGS=--quick, ARGS=--publish)
	$(BIN)/python -m bench.run $(ARGS)

.PHONY: bench-compare
bench-compare: setup ## Compare a quick run, or a kept one, with the published one (ARGS=FILE)
	$(BIN)/python -m bench.compare $(ARGS)

.PHONY: bench-index
bench-index: setup ## The index alone, from ten thousand to a million vectors (ARGS="--sizes 10000")
	$(BIN)/python -m bench.index $(ARGS)

.PHONY: bench-quality
bench-quality: setup ## How often hits are wrong, each figure beside its target (ARGS=--quick, ARGS=--publish)
	$(BIN)/python -m bench.quality $(ARGS)

.PHONY: bench-eviction
bench-eviction: setup ## Policies of eviction beside the optimum; a full server under load (ARGS=--publish)
	$(BIN)/python -m bench.eviction $(ARGS)
	$(BIN)/python -m bench.pressure $(ARGS)

.PHONY: bench-engines
bench-engines: setup ## Compare ways of running the default model (ARGS=--quick)
	$(BIN)/python -m bench.engines $(ARGS)

.PHONY: bench-scale
bench-scale: setup ## Start-up, memory and latency up to a million entries (ARGS=--quick)
	$(BIN)/python -m bench.scale $(ARGS)

.PHONY: clean
clean: ## Remove what set-up and tests made in the checkout
	rm -rf $(VENV) build bench/.venv-* tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
