# The one entry to working on airlock. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
AIRLOCK_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/airlock
export AIRLOCK_CACHE
export TESTS
export PATH := $(AIRLOCK_CACHE)/tools/bin:$(PATH)

.PHONY: help deps build demo test fast lint deny trace native vm fuzz fuzz-long install audit sweep-power-cuts sweep-escapes sweep-hostile-controller sweep-helper-kills sweep-crash-points bench-extract bench-store

help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

deps: ## Installs what the build and the tests need (asks first on a terminal).
	@tests/setup/deps.sh

build: ## Builds the programs, as the tests and the demo use them.
	cargo build --locked --workspace --bins

demo: ## Runs the main job: a real image, from a real S3 server to a block device.
	@tests/setup/deps.sh --no-tools
	$(MAKE) build
	@tests/demo/run

test: deps lint deny trace ## Runs every test, natively and in the VM.
	@tests/run-all

fast: lint ## The tests that need neither root nor the VM.
	cargo nextest run --locked --workspace --exclude airlock-tests --exclude airlock-dm-helper

lint: ## rustfmt and clippy, warnings denied.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@tests/fuzz/run --check

deny: ## Licences, banned crates, fences, sources; advisories where they can be fetched.
	@tests/setup/deny.sh

trace: ## Rules of the threat model against code and tests, both ways.
	@tests/trace

native: deps ## Only the tests that run on this kernel.
	@tests/run-all native

vm: deps ## Only the tests that run in the VM.
	@tests/run-all vm

fuzz: deps ## Fuzzes what reads strangers' bytes: 30 s each, or TIME=seconds; TARGET=name for one.
	@tests/fuzz/run $(or $(TIME),30) $(TARGET)

fuzz-long: deps ## The same for an hour each.
	@tests/fuzz/run $(or $(TIME),3600) $(TARGET)

bench-store: ## The store with 100,000 images and 1,000,000 events: look-ups, pages, start, a repeated run.
	cargo bench --locked -p airlock --bench store

install: ## Installs target/release onto this machine (as root; build it first).
	packaging/install target/release

audit: ## The auditor's budget: code lines, unsafe blocks, crates linked, system calls.
	@tests/audit

sweep-power-cuts: deps ## 30 power cuts in the VM: target/report/power-cuts.json.
	@tests/run-sweep sweep-power-cuts

sweep-escapes: deps ## What a worker and a broker that were taken over try, natively and in the VM: target/report/escapes.json.
	@TESTS='test(/no_escape/)' tests/run-all

sweep-hostile-controller: deps ## What a controller that was taken over tries, in the VM: target/report/hostile-controller.json.
	@TESTS='test(/hostile_controller/)' tests/run-all vm

sweep-helper-kills: deps ## 50 kills of the helper's processes in the VM: target/report/helper-kills.json.
	@AIRLOCK_SWEEP_CASES=$${AIRLOCK_SWEEP_CASES:-50} TESTS='test(/helpers_processes_killed/)' tests/run-all vm

sweep-crash-points: deps ## Each process ended at each of its crash points, in the VM: target/report/crash-points.json.
	@AIRLOCK_SWEEP_CASES=$${AIRLOCK_SWEEP_CASES:-1000000} TESTS='test(/crash_point/)' tests/run-all vm

bench-extract: deps ## Extraction beside other extractors, as root, minutes: target/bench/extract.json.
	@tests/run-bench
