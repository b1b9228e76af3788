# The one spelling of each command; continuous integration calls these recipes too (.ci/run).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

# Tools and downloads are cached under target/: `make clean-tools` forgets them.
binary := target/debug/twotower

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: ## generate data, train, evaluate and open the console; needs only Rust and a C compiler
	cargo run --release --locked -p twotower -- demo

.PHONY: test
test: tools lint test-edge test-rust test-doc test-docs test-deploy ## everything that must hold before a change lands

.PHONY: tools
tools: ## fetch what the tests need: PostgreSQL, Deno, a Python environment, Chromium, cargo-nextest, cargo-deny, the Supabase CLI, promtool
	scripts/test-postgres run true
	scripts/deno setup
	scripts/python-env
	scripts/python-env contract
	scripts/python-env deploy
	scripts/deploy-tools
	scripts/chromium
	scripts/cargo-nextest --version
	scripts/cargo-deny --version
	scripts/supabase-cli --version
	scripts/promtool --version

.PHONY: lint
lint: ## formatting, clippy, licences, sources and direction of crates, what may not stand in a file
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	scripts/check-crates
	scripts/check-repo

.PHONY: test-rust
test-rust: ## unit and integration tests, with a PostgreSQL of their own
	scripts/test-rust

.PHONY: test-edge
test-edge: ## the edge functions by themselves: format, lint, types and unit tests, without network
	scripts/deno setup
	scripts/deno fmt --check
	scripts/deno lint
	scripts/deno check --frozen --cached-only supabase/functions tests/stand-ins clients/typescript
	scripts/deno test --frozen --cached-only --allow-net=127.0.0.1 --allow-read --allow-write=/tmp

.PHONY: test-doc
test-doc: ## examples in the API documentation
	cargo test --workspace --doc --locked

.PHONY: test-docs
test-docs: ## flags and commands in the Markdown files, and the blocks that can be run
	cargo build --workspace --tests --locked
	scripts/test-postgres run tests/docs/check_docs.py $(binary)

.PHONY: test-deploy
test-deploy: ## what is under deploy/: linted, packaged, unpacked, held against systemd and the schemas of Kubernetes; Prometheus' rules and their tests
	scripts/promtool check config --syntax-only deploy/prometheus/prometheus.yml
	scripts/promtool check rules deploy/prometheus/alerts.yml
	scripts/promtool test rules deploy/prometheus/*.test.yml
	cargo build --workspace --tests --locked
	tests/deploy/lint
	tests/deploy/check_cron
	tests/deploy/check_package $(binary)
	scripts/test-postgres run tests/deploy/check_roles $(binary)

.PHONY: test-machine
test-machine: ## the package in a machine with a systemd of its own, installed, serving, its jobs run, purged; the image run; as root, on Debian
	cargo build -p twotower --locked
	tests/deploy/test_image $(binary)
	tests/deploy/test_machine "$$(scripts/package-deb $(binary) target/packages)"

.PHONY: test-replicas
test-replicas: ## two servers behind HAProxy (Debian's package) over a primary and its replica, while they die; TWOTOWER_TORTURE=full asks 100,000 times
	scripts/test-rust --run-ignored only --no-capture -E 'test(replicas::)'

.PHONY: test-scale
test-scale: ## twotower-scale: linted, tested with a cluster of processes, held together with twotower; DataFusion and Ballista are built first, half an hour of one core
	cargo fmt --manifest-path scale/Cargo.toml --check
	cargo clippy --manifest-path scale/Cargo.toml --all-targets --locked -- -D warnings
	scripts/cargo-deny --manifest-path scale/Cargo.toml --config scale/deny.toml check bans licenses sources
	cargo test --manifest-path scale/Cargo.toml --locked
	cargo build -p twotower --locked
	scripts/test-postgres run tests/scale/check_scale.py $(binary) scale/target/debug/twotower-scale

.PHONY: advisories
advisories: ## known vulnerabilities of what we depend on, by RustSec's database, which is fetched from GitHub: before each release
	scripts/check-advisories

.PHONY: quality
quality: ## ranking quality on ../shared/data; fails where that folder is missing
	scripts/test-postgres run scripts/quality

# Through PgBouncer in transaction mode: the store's contract, and the life cycle with the binary.
pooled := test(contract::) or test(life_cycle::)

.PHONY: torture
torture: ## kills, failing disks, dying servers, wrong clocks and double starts at every instant, a million probes of others' rows (an hour); TWOTOWER_TORTURE_SEED=… replays
	TWOTOWER_TORTURE=full NEXTEST_PROFILE=torture scripts/test-rust -E 'test(torture)'
	scripts/test-postgres run scripts/test-pgbouncer scripts/cargo-nextest run --workspace --locked --profile torture -E '$(pooled)'
	cat target/torture.log

.PHONY: contract
contract: ## the HTTP contract and the parsers on millions of hostile requests (an hour); TWOTOWER_FUZZ_SEED=… replays
	NEXTEST_PROFILE=torture TWOTOWER_CONTRACT_CASES=2000 TWOTOWER_FUZZ_EXECUTIONS=10000000 scripts/test-rust --config profile.dev.package.twotower.opt-level=1 -E 'test(schemathesis) or test(fuzz)'

.PHONY: bench
bench: ## speed of the trainer, of retrieval and of the server
	cargo bench --workspace --locked

.PHONY: bench-serving
bench-serving: ## the server under load, beside FastAPI services: half an hour, and a quiet machine; VIDEOS=1000000 for another size
	benches/serving/run --videos $(or $(VIDEOS),100000) exact prepare all clean

.PHONY: prove-lints
prove-lints: ## breaks each rule about crates, licences and sources once and expects it caught
	scripts/check-crates --prove

.PHONY: clean-tools
clean-tools: ## remove the tools that `make tools` fetched
	rm -rf target/tools
