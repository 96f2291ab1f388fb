# The one entry point for people and for CI. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Everything that is built or downloaded is kept outside the clone.
export POPULATORS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/volume-populators
export CARGO_TARGET_DIR ?= $(POPULATORS_CACHE)/target

# Builds take as long as the machine needs; tests that hang are ended.
LIMIT := tests/limit

.PHONY: help check unit
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 22

check: ## format, lints of Rust, shell and Python, dependency arrows
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	cargo run --locked --quiet -p xtask -- check
	.ci/lint

# Many tests wait for a scripted server to act, so more of them run at a time than there are cores.
UNIT := cargo test --locked --workspace --exclude suite --exclude e2e --quiet
unit: ## tests that need no service
	$(UNIT) --no-run
	$(LIMIT) 30m $(UNIT) -- --test-threads=8

.PHONY: model
model: ## the controller's decisions against a model of a cluster, with larger bounds than in `make unit`
	cargo test --locked --release --quiet -p population --test model_checker -- --nocapture --test-threads=2

PROGRAMS := -p populator-controller -p ovirt-populator -p openstack-populator

.PHONY: images cluster cluster-programs cluster-down cluster-checks e2e
cluster-programs: packages # the servers, from Go modules: 29 minutes of CPU once, nothing afterwards
	@tests/cluster/cluster build

cluster: cluster-programs ## a real Kubernetes with the sources and our images in namespaces of its own (tests/cluster)
	cargo build --locked --quiet $(PROGRAMS)
	@tests/cluster/cluster is-up || tests/cluster/cluster down # what a run that was killed has left
	tests/cluster/cluster up
	tests/cluster/cluster services
	tests/cluster/cluster images $(CARGO_TARGET_DIR)/debug

images: packages ## the three images for this machine's architecture, as OCI archives (OUT=folder)
	cargo build --locked --quiet --release $(PROGRAMS)
	FRESH=1 images/build $(or $(OUT),$(POPULATORS_CACHE)/images/release) $$(dpkg --print-architecture)=$(CARGO_TARGET_DIR)/release

# Man pages, completions and bills of materials, for a release.
PAGES := $(CARGO_TARGET_DIR)/pages
TOOLS := $(POPULATORS_CACHE)/tools
# Puts a list of crates into each program, where scanners find it.
AUDITABLE := cargo-auditable@0.7.7
.PHONY: version release
version: ## set VERSION=x.y.z in all files that name it, and date its section of the changelog
	cargo run --locked --quiet -p xtask -- version "$(VERSION)" $$(date -u +%F)

release: packages ## all that is published of VERSION=x.y.z, as docs/releases.md says (OUT=folder PREFIX=registry KEY=file SOURCE=URL)
	@git diff --quiet HEAD || { echo "there are changes that are not committed; a release is a commit" >&2; exit 1; }
	@mkdir -p "$(RELEASE)"
	cargo run --locked --quiet -p xtask -- changelog "$(VERSION)" > "$(RELEASE)/notes.md"
	cargo install --quiet --locked --root $(TOOLS) $(AUDITABLE)
	tests/cluster/cluster build kubectl helm
	PATH="$(TOOLS)/bin:$$PATH" cargo auditable build --locked --quiet --release $(PROGRAMS)
	@rm -rf $(PAGES)
	cargo run --locked --quiet -p xtask -- dist $(PAGES)
	FRESH=1 release/build "$(RELEASE)" $(PAGES) $$(dpkg --print-architecture)=$(CARGO_TARGET_DIR)/release
	@echo "$(RELEASE)"
RELEASE = $(or $(OUT),$(POPULATORS_CACHE)/release/$(VERSION))

cluster-checks: cluster-programs ## facts about Kubernetes, the definitions, the manifests and the CSI driver that tests rely on; attacks
	cargo build --locked --quiet $(PROGRAMS)
	POPULATOR_BIN_DIR=$(CARGO_TARGET_DIR)/debug $(LIMIT) 20m tests/cluster/run tests/cluster/checks/all

e2e: cluster-programs ## controller and movers as pods on a real cluster, with real sources; then the demo
	cargo build --locked --quiet $(PROGRAMS)
	cargo test --locked --quiet -p e2e --no-run
	@rm -rf $(PAGES)
	cargo run --locked --quiet -p xtask -- dist $(PAGES)
	POPULATOR_BIN_DIR=$(CARGO_TARGET_DIR)/debug POPULATOR_PAGES=$(PAGES) $(LIMIT) 60m tests/cluster/run tests/cluster/e2e

.PHONY: matrix
matrix: packages ## a short form of the cluster's tests on the other versions of Kubernetes, before a release (29 minutes of CPU once for each)
	cargo build --locked --quiet $(PROGRAMS)
	cargo test --locked --quiet -p e2e --no-run
	for version in $$(tests/cluster/cluster versions | tail -n +2); do \
	  export KUBERNETES=$$version CLUSTER_STATE=$(POPULATORS_CACHE)/cluster/state-$$version; \
	  tests/cluster/cluster build; \
	  POPULATOR_BIN_DIR=$(CARGO_TARGET_DIR)/debug $(LIMIT) 30m tests/cluster/run tests/cluster/matrix; \
	done

cluster-down: ## end it; nothing is left
	tests/cluster/cluster down

.PHONY: packages services
packages: ## Debian packages that the lints, the services, the cluster and their tests need
	@tests/services/packages
	@tests/cluster/cluster packages

# The built binaries on real services. Inside the namespaces there is no network, so all is built before.
services: packages ## the built binaries on real imageio, Keystone, Glance and Cinder; the standalone demo; each case of the bench once; bounds of what a copy costs
	cargo build --locked --quiet -p ovirt-populator -p openstack-populator
	cargo build --locked --quiet --release -p ovirt-populator -p openstack-populator -p floor
	cargo build --locked --quiet -p net --example records
	bench/peers/build $(CARGO_TARGET_DIR)/release
	cargo test --locked --quiet -p suite --no-run
	$(LIMIT) 30m tests/services/run --with cinder -- tests/services/all

.PHONY: test demo demo-standalone
# The cluster's programs are built beside the Rust code, which leaves cores idle now and then.
test: packages ## everything that continuous integration runs
	@mkdir -p $(POPULATORS_CACHE); \
	  setsid nice tests/cluster/cluster build > $(POPULATORS_CACHE)/cluster-programs.log 2>&1 & programs=$$!; \
	  trap 'kill -- -$$programs 2> /dev/null || true' EXIT; \
	  $(MAKE) --no-print-directory check unit services; \
	  wait $$programs || { tail -n 40 $(POPULATORS_CACHE)/cluster-programs.log >&2; exit 1; }; \
	  trap - EXIT
	@$(MAKE) --no-print-directory cluster-checks e2e

demo: cluster-programs ## the main job on a real cluster, with proof that the bytes are equal
	cargo build --locked --quiet $(PROGRAMS)
	POPULATOR_BIN_DIR=$(CARGO_TARGET_DIR)/debug demo/cluster

demo-standalone: packages ## copy a disk from oVirt and one from OpenStack, without Kubernetes
	cargo build --locked --quiet --release -p ovirt-populator -p openstack-populator
	POPULATOR_BIN_DIR=$(CARGO_TARGET_DIR)/release demo/standalone

.PHONY: fuzz
FUZZ := detect qcow2 vmdk vdi vhd vhdx unwrap records
FUZZER := cargo-fuzz@0.13.2
# What the fuzzer learns is kept beside the other caches; what fails is written to fuzz/artifacts.
fuzz: ## fuzz each parser for DURATION seconds (default 450, an hour in all; TARGETS="qcow2 vmdk"); needs a nightly compiler
	cargo install --quiet --locked --root $(TOOLS) $(FUZZER)
	for target in $(or $(TARGETS),$(FUZZ)); do \
	  mkdir -p $(POPULATORS_CACHE)/fuzz/$$target; \
	  PATH="$(TOOLS)/bin:$$PATH" CARGO_TARGET_DIR=$(POPULATORS_CACHE)/fuzz/target cargo +nightly fuzz run --features libfuzzer $$target \
	    $(POPULATORS_CACHE)/fuzz/$$target fuzz/corpus/$$target -- -max_total_time=$(or $(DURATION),450) -timeout=60 -verbosity=0 -print_final_stats=1; \
	done

.PHONY: bench
bench: packages ## cost of copies beside other clients: bench/out/table.md, chart.svg (BENCH="--help" for cases and options)
	cargo build --locked --quiet --release -p ovirt-populator -p openstack-populator -p floor
	bench/peers/build $(CARGO_TARGET_DIR)/release
	POPULATOR_BIN_DIR=$(CARGO_TARGET_DIR)/release tests/services/run -- bench/run $(BENCH)

.PHONY: bench-controller
bench-controller: ## what 200 and 1,000 claims at once cost the controller, with stand-ins for all else (BENCH="50 --pod-seconds 0")
	cargo bench --locked --quiet -p populator-controller --bench claims -- $(BENCH)
