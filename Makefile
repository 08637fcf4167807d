# The two commands of the README are `make demo` and `make test`; both install what they lack.
CARGO ?= cargo
ROUNDS ?= 5
SECONDS ?= 6

.PHONY: help build demo test bench fuzz lint fmt clean

help:            ## this text
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build:           ## compile everything (target/debug/tektin)
	./bootstrap.sh build
	$(CARGO) build

demo:            ## workloads in namespaces, real requests, who may do what and why (root)
	./bootstrap.sh demo
	$(CARGO) build
	./testdata/demo/run.sh

test:            ## every test: unit, property, policy corpus, real traffic (root)
	./bootstrap.sh test
	$(CARGO) test

bench:           ## against nothing, Envoy, HAProxy, nginx (root; ROUNDS=5 SECONDS=6, or QUICK=1)
	./bootstrap.sh bench
	$(CARGO) build --release
	python3 loadtests/bench.py --rounds $(ROUNDS) --seconds $(SECONDS) $(if $(QUICK),--quick)
	$(MAKE) bench-scale
	$(MAKE) bench-kafka

bench-scale:     ## 10,000 rules, 50,000 identities; policy file to enforcement (root; or QUICK=1)
	./bootstrap.sh bench
	$(CARGO) build --release -p tektin
	$(CARGO) build --release -p policy-engine --example scale
	python3 loadtests/scale.py $(if $(QUICK),--quick)

bench-kafka:     ## MB a second through a Kafka rule, against nothing (root; or QUICK=1)
	./bootstrap.sh bench
	$(CARGO) build --release -p tektin
	python3 loadtests/kafka.py --rounds $(ROUNDS) $(if $(QUICK),--quick)

fuzz:            ## every parser against hostile bytes (SECONDS=60 a target, TARGET="one two", SANITIZER=address, MINIMISE=1, JOBS=2)
	./bootstrap.sh fuzz
	python3 fuzz/run.py $(if $(filter command\ line environment,$(origin SECONDS)),--seconds $(SECONDS)) \
		$(if $(TARGET),--target $(TARGET)) $(if $(SANITIZER),--sanitizer $(SANITIZER)) $(if $(MINIMISE),--minimise) $(if $(JOBS),--jobs $(JOBS))

lint:            ## formatting, clippy, dependency rules
	./bootstrap.sh lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) deny check bans licenses sources

fmt:             ## format all code
	$(CARGO) fmt --all

clean:           ## delete build output
	$(CARGO) clean
