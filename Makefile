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
# How many of them run at once.
E2E_THREADS ?= 3
GENERATED := generated chart
INTEGRATION := $(filter-out $(E2E) $(GENERATED),$(TESTS))

# Deployments of the engine's scale test in `make full`; CI takes 20.
FULL_SCALE ?= 1000
# How long `make soak` goes on.
SOAK_MINUTES ?= 240

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
	$(if $(E2E),$(CARGO) test $(FEATURES) $(E2E:%=--test %) -- --test-threads=$(E2E_THREADS) --nocapture $(E2E_TESTS),@echo "no end-to-end tests")

.PHONY: test-demo
test-demo: demo ## The demo, and the tour of README.md line by line
	lab/tour.sh

##: Before a release (docs/benchmarks.md has the results)

.PHONY: full
full: ## Real Karmada and its older versions, upstream's own suite, the engine at scale; needs KARMADA_BIN
	@if [[ -z "$${KARMADA_BIN:-}" ]]; then echo "KARMADA_BIN must name a folder with upstream's binaries and crds.tar.gz" >&2; exit 1; fi
	@.ci/checks setup test-scale test-e2e test-older test-upstream

.PHONY: test-scale
test-scale: ## Integration tests with the engine's scale test as large as FULL_SCALE says
	AIRDOCK_TEST_SCALE=$(FULL_SCALE) $(MAKE) test-integration

# For example KARMADA_OLDER='v1.17.4=/opt/karmada-1.17 v1.16.7=/opt/karmada-1.16', each folder like that of KARMADA_BIN.
.PHONY: test-older
test-older: build ## Profile Full with the releases that KARMADA_OLDER lists
	@if [[ -z "$${KARMADA_OLDER:-}" ]]; then \
	  echo "SKIPPED: older versions of Karmada, since KARMADA_OLDER lists none"; \
	else \
	  for one in $$KARMADA_OLDER; do \
	    KARMADA_VERSION=$${one%%=*} KARMADA_BIN=$${one#*=} $(MAKE) test-e2e E2E_TESTS=full::; \
	  done; \
	fi

# The command gets KUBECONFIG with the contexts karmada-host and karmada-apiserver, and fails when a spec does.
.PHONY: test-upstream
test-upstream: ## Karmada's own end-to-end suite, by the command in KARMADA_SUITE
	@if [[ -z "$${KARMADA_SUITE:-}" ]]; then \
	  echo "SKIPPED: Karmada's own end-to-end suite, since KARMADA_SUITE names no command that runs it"; \
	else \
	  bash -c "$$KARMADA_SUITE"; \
	fi

.PHONY: bench
bench: bench-engine bench-instances bench-lab ## All measurements

.PHONY: bench-engine
bench-engine: ## Measure the engine with thousands of objects (AIRDOCK_BENCH_RECORD=NAME keeps them in docs/benchmarks.json)
	$(CARGO) bench $(FEATURES) --bench engine

.PHONY: bench-instances
bench-instances: ## Measure what idle instances cost the operator (AIRDOCK_BENCH_INSTANCES of them, 50 when unset)
	$(CARGO) bench $(FEATURES) --bench instances

.PHONY: bench-lab
bench-lab: build ## Measure installs, joins and distribution on the lab (as root)
	lab/bring-up.sh
	$(LAB) member add m03 --region bench --provider bench
	$(CARGO) bench $(FEATURES) --bench fleet

.PHONY: soak
soak: ## Random work, kills included, on an engine with three members, for SOAK_MINUTES (AIRDOCK_RECORD=1 keeps the result)
	@mkdir -p target
	@result=ok; AIRDOCK_SOAK_MINUTES=$(SOAK_MINUTES) $(CARGO) bench $(FEATURES) --bench soak 2>&1 | tee target/soak.log || result=FAILED; \
	  .ci/record "\`make soak\`, $(SOAK_MINUTES) minutes" "$$result; $$(grep -E '^soak: ([0-9.]+ minutes|memory of an engine that lived:|killed:)' target/soak.log | paste -sd ';')"; \
	  [[ $$result == ok ]]

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
