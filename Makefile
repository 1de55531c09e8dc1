# The commands of this project. The README and CI use only these targets.

export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

gateway := $(or $(CARGO_TARGET_DIR),target)/release/image2model-gateway
image := image2model-gateway
advisories := https://github.com/RustSec/advisory-db
profile := $(if $(filter true,$(CI)),ci,default)

.DEFAULT_GOAL := help
.PHONY: help run run-sentinel run-cluster demo test test-cluster test-chaos test-upgrade check bench bench-http bench-flames bench-sse soak bench-cleanup bench-startup bench-growth check-instructions image clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and start the service with an embedded Redis
	@scripts/setup rust redis
	@cargo build --release --locked
	@exec $(gateway) --config config/development.toml

run-sentinel: ## Build and start the service with a primary, two replicas and three sentinels
	@scripts/setup rust redis
	@cargo build --release --locked
	@exec scripts/run-sentinel $(gateway) --config config/development.toml

run-cluster: ## Build and start the service with a Redis Cluster of three primaries and three replicas
	@scripts/setup rust redis
	@cargo build --release --locked
	@exec scripts/run-cluster $(gateway) --config config/development.toml

demo: ## Show a job from upload to model; DEMO_ARGS sets options
	@scripts/setup rust redis
	@cargo build --release --locked
	@exec $(gateway) demo $(DEMO_ARGS)

test: ## Run all tests
	@scripts/setup rust nextest redis python browser typescript documents
	@echo "== tests"
	@cargo nextest run --locked --lib --bins --tests --profile $(profile)
	@echo "== documentation tests"
	@cargo test --doc --locked

test-cluster: ## Run the integration tests on a Redis Cluster
	@scripts/setup rust nextest redis python
	@# Each test starts a cluster node, which accepts writes only after two seconds.
	@I2M_TEST_REDIS=cluster cargo nextest run --locked --test it --profile cluster --test-threads 6

test-chaos: ## Inject faults into Redis, the network and the service under load; writes docs/CHAOS.md
	@scripts/setup rust nextest redis faketime
	@cargo nextest run --locked --test it --run-ignored only --no-capture -E 'test(/^chaos::/)'

test-upgrade: ## Run this version and the version at FROM (a git ref) on one Redis
	@scripts/setup rust nextest redis
	@test -n "$(FROM)" || { echo "usage: make test-upgrade FROM=main" >&2; exit 2; }
	@rm -rf .cache/other-version && git worktree prune
	@git worktree add --quiet --detach .cache/other-version $(FROM)
	@cd .cache/other-version && cargo build --locked --target-dir ../other-target
	@git worktree remove --force .cache/other-version
	@I2M_OTHER_VERSION=$(CURDIR)/.cache/other-target/debug/image2model-gateway \
		cargo nextest run --locked --test it --run-ignored only -E 'test(/^upgrade::/)'

check: ## Check format, lints, documentation, dependencies and deployment files
	@scripts/setup rust redis deny lua kubernetes containers prometheus
	@echo "== format"
	@cargo fmt --check
	@echo "== lints"
	@cargo clippy --locked --all-targets --all-features -- -D warnings
	@echo "== Lua"
	@scripts/check-lua
	@echo "== documentation"
	@RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@echo "== dependencies"
	@cargo deny --locked check --hide-inclusion-graph bans licenses sources
	@echo "== Kubernetes"
	@.cache/kubernetes-venv/bin/python scripts/check-kubernetes
	@echo "== containers"
	@.cache/containers-venv/bin/python scripts/check-containers
	@echo "== alerts and dashboard"
	@scripts/check-prometheus
	@echo "== advisories"
	@if GIT_TERMINAL_PROMPT=0 git ls-remote --quiet $(advisories) HEAD >/dev/null 2>&1; then \
		cargo deny --locked check advisories; \
	else \
		echo "WARNING: ADVISORIES NOT CHECKED: $(advisories) is unreachable" >&2; \
	fi

check-instructions: ## Count the instructions of hot paths and compare with the baseline; RENEW=1 updates it
	@scripts/setup rust valgrind
	@cargo bench --locked --features bench-internals --bench instructions -- $(if $(RENEW),--renew)

bench: bench-http bench-sse ## Compare requests and streams with other implementations

bench-http: ## Compare requests with Redis and FastAPI; BENCH_QUICK=1 is shorter, BENCH_ARGS sets options
	@scripts/setup rust redis wrk bench-python
	@cargo bench --locked --bench http -- $(if $(BENCH_QUICK),--quick) $(BENCH_ARGS)

bench-flames: ## Draw flame graphs of the gateway into bench/results/flame-*.svg
	@scripts/setup rust redis wrk flames
	@CARGO_PROFILE_BENCH_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
		RUSTFLAGS=-Cforce-frame-pointers=yes CARGO_TARGET_DIR=target/flames \
		cargo bench --locked --bench http -- --flames $(if $(BENCH_QUICK),--quick) $(BENCH_ARGS)

bench-sse: ## Compare streams with nchan and FastAPI; BENCH_QUICK=1 is shorter, BENCH_ARGS sets options
	@scripts/setup rust redis nchan bench-python
	@ulimit -n 65536 2>/dev/null || ulimit -n "$$(ulimit -H -n)"; \
		cargo bench --locked --bench sse -- $(if $(BENCH_QUICK),--quick) $(BENCH_ARGS)

soak: ## Reconnect browsers for ten minutes while Redis is killed; SOAK_SECS sets the duration
	@scripts/setup rust redis nchan
	@ulimit -n 65536 2>/dev/null || ulimit -n "$$(ulimit -H -n)"; \
		cargo bench --locked --bench sse -- --soak $(or $(SOAK_SECS),600)

bench-cleanup: ## Measure request latency during a cleanup of a million keys
	@scripts/setup rust redis
	@cargo bench --locked --bench cleanup -- $(BENCH_ARGS)

bench-startup: ## Measure start-up time, binary size and idle memory
	@scripts/setup rust redis
	@cargo bench --locked --bench startup

bench-growth: ## Measure requests with a million jobs and with 10 000 open streams; BENCH_QUICK=1 is shorter
	@scripts/setup rust redis wrk
	@ulimit -n 65536 2>/dev/null || ulimit -n "$$(ulimit -H -n)"; \
		cargo bench --locked --bench growth -- $(if $(BENCH_QUICK),--quick) $(BENCH_ARGS)

image: ## Build the container image
	@docker build --tag $(image) .

clean: ## Remove build output and the packages that scripts/setup installed in this directory
	@cargo clean --quiet
	@rm -rf .cache tests/browser/node_modules clients/typescript/node_modules clients/typescript/dist
