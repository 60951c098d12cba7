# make demo    a spoken conversation with the embedded agent, from nothing: builds, calls, prints, records
# make run     leaves the gateway running and says how to reach it
# make test    everything that can fail: format, lints, documentation, tests, interoperation
# make lint    the first three of these
# make bench   what a frame costs at each stage
# make fuzz    ten minutes of each fuzz target (wants nightly Rust and cargo-fuzz: tests/fuzz/README.md)
#
# Both demo and test install what is missing (Debian packages, by apt).

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/debug

# A C compiler for the crates that build C; libopus for the codec of that name; PocketSphinx and its English model are the embedded
# agent's ear, flite is its voice and the callers' in the demo and the tests.
PACKAGES := gcc libc6-dev pkg-config libopus-dev libpocketsphinx-dev pocketsphinx-en-us flite

# Other people's telephones, proxies and browsers, for the interoperation tests. Without one of them its tests are skipped.
PEERS := sip-tester baresip-core kamailio openssl chromium nodejs npm gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
	gstreamer1.0-plugins-bad gstreamer1.0-nice python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-bad-1.0

DEMO_HTTP := 127.0.0.1:18080
DEMO_ADMIN := 127.0.0.1:19090
DEMO_SIP := 127.0.0.1:15060
DEMO_WEBRTC := 127.0.0.1:20443

FUZZ_SECONDS := 600

.PHONY: demo run test lint bench fuzz fuzz-sip fuzz-sdp fuzz-rtp check-proto interop peers setup build

demo: build
	@loadtest/demo.sh $(BIN) $(DEMO_HTTP) $(DEMO_ADMIN) $(DEMO_SIP) $(DEMO_WEBRTC) $(TARGET)/demo

run: build
	@echo "Browser:  http://127.0.0.1:8080                     (set http.public_url and [webrtc] to be reached from outside)"
	@echo "SIP:      sip:demo@127.0.0.1:5060, by UDP or TCP    (set sip.listen and sip.allow to be reached from outside)"
	@echo "Twilio:   POST http://127.0.0.1:8080/twilio/voice   (set http.public_url to be reached from outside)"
	@echo "Call it:  a softphone on this machine, or"
	@echo "          $(BIN)/tandem-load call sip:demo@127.0.0.1:5060 --admin http://127.0.0.1:9090 --say FILE.wav"
	@echo "          $(BIN)/tandem-load call ws://127.0.0.1:8080/twilio/media --admin http://127.0.0.1:9090 --say FILE.wav"
	@echo "          $(BIN)/tandem-load call http://127.0.0.1:8080/whip/demo --admin http://127.0.0.1:9090 --say FILE.wav"
	@echo "Watch it: http://127.0.0.1:9090/v1/calls  http://127.0.0.1:9090/metrics"
	@$(BIN)/tandem serve

test: setup lint check-proto
	@rm -f $(TARGET)/tmp/skipped
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --no-fail-fast && cargo test --workspace --doc -q; \
	else \
		cargo test --workspace; \
	fi
	@$(MAKE) --no-print-directory interop
	@cat $(TARGET)/tmp/skipped 2>/dev/null || true

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items -q

bench: setup
	cargo bench --bench frame

fuzz: fuzz-sip fuzz-sdp fuzz-rtp
fuzz-sip: SEEDS := tests/data/rfc4475
# What is found goes to the first folder; the others are only read.
fuzz-sip fuzz-sdp fuzz-rtp: fuzz-%: setup
	@mkdir -p tests/fuzz/target/corpus/$*
	cargo +nightly fuzz run --fuzz-dir tests/fuzz $* tests/fuzz/target/corpus/$* tests/fuzz/corpus/$* $(SEEDS) -- \
		-dict=tests/fuzz/$*.dict -max_len=4096 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1

# Our message definitions against the table of the published ones; the same check is a test of the crate.
check-proto: setup
	@if command -v python3 >/dev/null; then \
		cargo run -q -p tandem-proto --example descriptors -- $(TARGET)/descriptors.binpb && \
		python3 proto/check_proto.py $(TARGET)/descriptors.binpb proto/tests/proto_fields.txt; \
	else \
		echo "check-proto: skipped, there is no python3 (the crate's own test makes the same check)"; \
	fi

# Google's own client and server classes, and other people's SIP, against ours; skips, and says so, what cannot be installed.
interop: build peers
	@tests/interop/run.sh $(BIN) $(TARGET)/interop

build: setup
	cargo build --workspace

# Never a reason to fail, and one package that is missing does not keep the others away.
peers: setup
	@for package in $(PEERS); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "ok installed" && continue; \
		case $$package in \
			nodejs) command -v node >/dev/null && continue;; \
			npm) command -v npm >/dev/null && continue;; esac; \
		if [ "$$package" = kamailio ] && [ -d /run/systemd/system ]; then \
			echo "interop: kamailio is yours to install: its package starts a server on port 5060"; continue; fi; \
		if [ "$$(id -u)" = 0 ]; then run=; else run="sudo -n"; fi; \
		echo "Installing $$package"; \
		if [ -z "$$updated" ]; then updated=yes; $$run apt-get update -qq; fi; \
		DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -qq --no-install-recommends $$package >/dev/null || \
			echo "interop: cannot install $$package, so its tests will be skipped"; \
	done; true

setup:
	@missing=$$(for package in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q "ok installed" || echo -n "$$package "; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then run=; elif command -v sudo >/dev/null; then run=sudo; else \
		echo "Please install these Debian packages, then try again: $$missing"; exit 1; fi; \
	echo "Installing $$missing"; \
	$$run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$run apt-get install -y -qq --no-install-recommends $$missing
