# The project's verbs. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# One set of features everywhere, so that no dependency is built twice for a profile.
CARGO ?= cargo
FEATURES := --locked --all-features

# Pinned: a newer cargo-deny may know new checks.
CARGO_DENY_VERSION := 0.20.2
CARGO_TOOLS := .cache/cargo-tools
CARGO_DENY := $(CARGO_TOOLS)/bin/cargo-deny

LAB := target/release/airdock-lab
# etcd, kube-apiserver, kubectl and helm for the tests.
export AIRDOCK_TEST_BIN ?= $(CURDIR)/.lab/bin

# Every file or folder of tests/ that is a test of its own; those whose name starts with e2e need the lab.
TESTS := $(basename $(notdir $(wildcard tests/*.rs))) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs))
E2E := $(filter e2e%,$(TESTS))
# Which end-to-end tests run, as cargo test's filters; all of them when empty.
E2E_TESTS ?=
GENERATED := generated chart
INTEGRATION := $(filter-out $(E2E) $(GENERATED),$(TESTS))

.PHONY: help
help: ## List the verbs
	@awk 'BEGIN {FS = ":.*## "} /^##: / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##: Building

.PHONY: setup
setup: build ## Install what the lab and the tests need (Debian packages when root, Go programs into .lab/bin)
	$(LAB) setup

.PHONY: build
build: ## Build the release binaries (airdock, airdock-lab)
	$(CARGO) build $(FEATURES) --release --bins

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: crds
crds: ## Regenerate crds/, the chart's copies, manifests/kustomize and docs/api.md from the Rust types
	AIRDOCK_REGENERATE=1 $(CARGO) test $(FEATURES) --quiet --test generated
	AIRDOCK_REGENERATE=1 $(CARGO) test $(FEATURES) --quiet --test chart kustomize_has_what_helm_renders

.PHONY: docs
docs: ## Regenerate the API reference, docs/api.md, and the tables of docs/compatibility.md
	AIRDOCK_REGENERATE=1 $(CARGO) test $(FEATURES) --quiet --test generated is_current

##: Checking

.PHONY: test
test: ## Everything CI checks; sets up what it needs
	@.ci/checks setup check-fmt lint deny test-unit test-generated test-integration test-e2e test-demo $(if $(CI),demo-down)

.PHONY: check-fmt
check-fmt: ## Fail when the code is not formatted
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Clippy over everything, warnings are errors
	$(CARGO) clippy $(FEATURES) --all-targets -- -D warnings

.PHONY: deny
deny: $(CARGO_DENY) ## Licenses, bans and sources of dependencies; advisories when the database can be reached
	$(CARGO_DENY) --all-features --log-level error check --hide-inclusion-graph bans licenses sources
	@.ci/advisories $(CARGO_DENY)

$(CARGO_DENY):
	$(CARGO) install --locked --root $(CARGO_TOOLS) --version $(CARGO_DENY_VERSION) cargo-deny

.PHONY: test-unit
test-unit: ## Unit tests; need nothing but Rust
	$(CARGO) test $(FEATURES) --no-fail-fast --lib --bins

.PHONY: test-generated
test-generated: ## Checked-in CRDs, API reference, chart and kustomize base are what would be generated; the chart's tests
	$(CARGO) test $(FEATURES) --no-fail-fast $(GENERATED:%=--test %)

.PHONY: test-integration
test-integration: ## Tests on a real etcd and kube-apiserver
	$(if $(INTEGRATION),$(CARGO) test $(FEATURES) --no-fail-fast $(INTEGRATION:%=--test %),@echo "no integration tests")

.PHONY: test-e2e
test-e2e: build ## Tests on the lab's clusters (as root)
	lab/bring-up.sh
	$(if $(E2E),$(CARGO) test $(FEATURES) $(E2E:%=--test %) -- --test-threads=1 --nocapture $(E2E_TESTS),@echo "no end-to-end tests")

.PHONY: test-demo
test-demo: demo ## The demo, and the tour of README.md line by line
	lab/tour.sh

.PHONY: bench
bench: build ## Measure installs, joins and distribution on the lab
	lab/bring-up.sh
	$(LAB) member add m03 --region bench --provider bench
	$(CARGO) bench $(FEATURES) --bench fleet

##: Trying

.PHONY: demo
demo: build ## From nothing to an application in three clusters (as root)
	@lab/demo.sh

.PHONY: demo-down
demo-down: build ## Remove the lab: processes, mounts, networks
	$(LAB) down

.PHONY: clean
clean: ## Remove what was built here; the lab must be down
	@if [[ -e .lab/lab.json ]]; then echo "the lab is up; run 'make demo-down' first" >&2; exit 1; fi
	rm -rf target .lab .cache
