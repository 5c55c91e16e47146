# make demo    set up what is missing, build, and show sitegate at work (DEMO_ARGS=--once to do it once and end)
# make test    set up what is missing, and run every test
# make release build the program that is guided by a profile (some minutes more than a plain build)
# make soak    swaps, reloads, kills, restarts and clocks that jump under load, for minutes
# make fuzz    a minute of fuzzing for each parser (FUZZ_SECONDS=60)
# The rest: setup crowds fleet lint bench bench-site instructions deny clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
CARGO ?= cargo
DEMO_ARGS ?=
TOOLS ?= $(HOME)/.cache/sitegate/tools

.PHONY: help setup setup-demo client-libraries demo test release shuffled soak crowds fleet fuzz lint bench bench-site instructions deny clean
.NOTPARALLEL:

help:
	@sed -n '1,6s/^# //p' Makefile

setup:
	@.ci/setup

# Client libraries of others, which the tests speak with.
client-libraries: setup
	@.ci/python-tools
	@.ci/node-tools


# Less than tests need.
setup-demo:
	@.ci/setup demo

demo: setup-demo
	$(CARGO) run --release -p sitegate-lab -- demo $(DEMO_ARGS)

# The doc tests first: the last thing to read is the runner's summary.
test: setup client-libraries
	$(CARGO) test --doc
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		echo '$(CARGO) nextest run'; $(CARGO) nextest run --no-fail-fast; \
	else \
		echo '$(CARGO) test --lib --bins --tests'; $(CARGO) test --lib --bins --tests --no-fail-fast; \
	fi

# Every test in random orders beside a load: what chance can break.
RUNS ?= 10
shuffled: setup client-libraries
	@tests/shuffled $(RUNS)

release:
	@.ci/release

# Many times what the tests do: SOAK=1 is what they do.
SOAK ?= 25
soak: setup
	$(CARGO) build
	SITEGATE_SOAK=$(SOAK) $(CARGO) nextest run --test scenarios --no-capture soak
	SITEGATE_CELLS=100000 SITEGATE_SEED=$$(date +%s) $(CARGO) nextest run --test scenarios --no-capture the_protocol_of_a_client

# As many clients as are meant, not a part of them: minutes, and thousands of descriptors.
crowds: setup
	SITEGATE_CROWD=1 $(CARGO) nextest run --test scenarios --no-capture crowds_of large_uploads client_input_creates_no_metric_series windows_authentication_are_never

# A thousand clients at work, through a gateway, to a simulated site system: FLEET=1000 FLEET_TIME=60s
FLEET ?= 1000
FLEET_TIME ?= 60s
fleet: setup
	$(CARGO) build --release
	@.ci/fleet $(FLEET) $(FLEET_TIME) $(FLEET_ARGS)

fuzz:
	@.ci/fuzz $(FUZZ_TARGETS)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

bench:
	$(CARGO) bench --bench request --bench token --bench store --bench endpoints --bench loopback

# A site with 500,000 devices, 500,000 blocks and 3 million tokens, on both databases: some minutes.
BENCH_SITE ?=
bench-site: setup
	$(CARGO) build --release
	for store in sqlite postgres; do \
	  python3 benches/site/bench.py --sitegate "$${CARGO_TARGET_DIR:-target}/release/sitegate" \
	    --store $$store $(BENCH_SITE); \
	done

GUNGRAUN := $(shell sed -n 's/^gungraun = "=\(.*\)"/\1/p' Cargo.toml)
instructions:
	@command -v valgrind >/dev/null || { echo 'missing: valgrind (Debian: valgrind)' >&2; exit 1; }
	@[ -x '$(TOOLS)/bin/gungraun-runner' ] || $(CARGO) install --locked --quiet --root '$(TOOLS)' gungraun-runner@$(GUNGRAUN)
	PATH='$(TOOLS)/bin':"$$PATH" $(CARGO) bench --bench instructions

deny:
	@if [ ! -x '$(TOOLS)/bin/cargo-deny' ] && ! command -v cargo-deny >/dev/null; then \
		$(CARGO) install --locked --root '$(TOOLS)' cargo-deny; \
	fi
	PATH='$(TOOLS)/bin':"$$PATH" cargo-deny check bans licenses sources

clean:
	$(CARGO) clean
