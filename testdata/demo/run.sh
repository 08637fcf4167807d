#!/usr/bin/env bash
# The demo: a shop (nginx), an order service (gRPC), a broker (Apache Kafka), a front end, a warehouse,
# a guest and an outside host, each in a network namespace of its own, joined to a node namespace in which Tektin runs. Requests are made, and each is shown
# with who, what, verdict and the rule that decided. Then everything stays for you to try, until
# Ctrl-C (or until standard input ends, where it is no terminal). Nothing is left behind.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tektin=$(realpath -m "${TEKTIN:-$here/../../target/debug/tektin}")
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "demo: needs root (network namespaces, eBPF)" >&2; exit 1; }
[ -x "$tektin" ] || { echo "demo: $tektin is not built: run 'make demo'" >&2; exit 1; }

build=$(realpath -m "${CARGO_TARGET_DIR:-$here/../../target}")
python=$build/grpc/venv/bin/python
[ -x "$python" ] && [ -d "$build/kafka/lib" ] || { echo "demo: no gRPC or Kafka in $build: run 'make demo'" >&2; exit 1; }
id=tek-demo-$$
node=$id-node outside=$id-outside
dir=$(mktemp -d)
pins=/sys/fs/bpf/tektin-demo-$$
export TEKTIN_SOCKET=$dir/run/agent.sock
step=0
say() { step=$((step + 1)); printf '\033[1m[%d/7]\033[0m %s\n' $step "$*"; }

cleanup() {
  trap - EXIT; trap '' INT TERM HUP
  set +e
  printf '\ncleaning up … '
  [ -n "${watcher:-}" ] && kill "$watcher" 2>/dev/null
  [ -n "${agent:-}" ] && kill "$agent" 2>/dev/null && sleep 0.3
  nsenter --net=/run/netns/$node "$tektin" cleanup --state-dir "$dir/state" --run-dir "$dir/run" --pin-dir "$pins" >/dev/null 2>&1
  local n
  for n in $(ip netns list | awk -v id="$id-" 'index($1, id) == 1 {print $1}'); do
    ip netns pids "$n" | xargs -r kill 2>/dev/null
    sleep 0.2
    ip netns pids "$n" | xargs -r kill -9 2>/dev/null
    ip netns del "$n"
  done
  rm -rf "$pins" "$dir"
  echo done
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

say "network namespaces: a node, six workloads, an outside host"
for n in node shop orders broker frontend warehouse guest outside; do ip netns add $id-$n; ip -n $id-$n link set lo up; done
ip -n $node link add uplink type veth peer name eth0 netns $outside
ip -n $node addr add 192.0.2.1/24 dev uplink
ip -n $node addr add 2001:db8::1/64 dev uplink nodad
ip -n $node link set uplink up
ip -n $outside addr add 192.0.2.9/24 dev eth0
ip -n $outside addr add 2001:db8::9/64 dev eth0 nodad
ip -n $outside link set eth0 up
ip -n $outside route add 10.77.0.0/24 via 192.0.2.1
ip -n $outside -6 route add fd00:77::/112 via 2001:db8::1

say "the agent and its proxy, in the node's namespace"
mkdir -p "$dir/policies" "$dir/run"
nsenter --net=/run/netns/$node "$tektin" agent --state-dir "$dir/state" --run-dir "$dir/run" --pin-dir "$pins" \
  --policy-dir "$dir/policies" --pool4 10.77.0.0/24 --pool6 fd00:77::/112 >"$dir/agent.log" 2>&1 &
agent=$!
disown
up() { "$tektin" status --check >/dev/null 2>&1; }
for _ in $(seq 200); do up && break; sleep 0.1; done
up || { "$tektin" status >&2; cat "$dir/agent.log" >&2; echo "demo: the agent or its proxy did not start" >&2; exit 1; }

say "six endpoints with their labels; nginx as the shop, grpcio and Apache Kafka behind it"
for app in shop orders broker frontend warehouse guest; do
  "$tektin" endpoint add $app --netns $id-$app --namespace demo --label app=$app >/dev/null
done
"$tektin" endpoint list
# whose, 4 or 6
address() { "$tektin" endpoint get $1 --output json | sed -n "s/.*\"ipv$2\": *\"\([^\"]*\)\".*/\1/p"; }
shop4=$(address shop 4)
shop6=$(address shop 6)
orders=$(address orders 4):50051
broker=$(address broker 4):9092
inside() { local from=$1; shift; ip netns exec $id-$from "$@"; }
mkdir "$dir/nginx"
inside shop nginx -p "$dir/nginx" -c "$here/nginx.conf" 2>/dev/null & disown
inside orders "$python" "$here/orders.py" serve 2>"$dir/orders.log" & disown
kafka() {
  # Java asks for the name of every address; without a resolver it would wait for one.
  inside broker java -Xmx256m -XX:TieredStopAtLevel=1 -Djdk.net.hosts.file="$dir/hosts" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$build/kafka/lib/*" "$@"
}
echo "127.0.0.1 localhost" >"$dir/hosts"
{
  cat "$here/broker.properties"
  echo "listeners=PLAINTEXT://$broker,CONTROLLER://127.0.0.1:9093"
  echo "log.dirs=$dir/kafka"
} >"$dir/broker.properties"
{ kafka kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAA -c "$dir/broker.properties" &&
  kafka kafka.Kafka "$dir/broker.properties"; } >"$dir/kafka.log" 2>&1 & disown
# whose, port
listens() {
  for _ in $(seq 600); do [ -z "$(inside $1 ss -Hltn sport = :$2)" ] || return 0; sleep 0.1; done
  echo "demo: nobody listens on port $2 of $1" >&2; cat "$dir"/*.log >&2; exit 1
}
listens shop 80

say "the policy ($here/policy.yaml)"
"$tektin" policy apply "$here/policy.yaml"

say "requests, each with the rule that decided"
# Without the "redirected" ones: each connection handed to the proxy is followed by its requests.
"$tektin" observe --follow --verdict forwarded --verdict denied --verdict dropped --verdict refused --verdict error &
watcher=$!
sleep 0.7
# from, what to run (the answer itself is not shown: the table is)
ask() { local from=$1; shift; inside $from curl -s -o /dev/null -m 1 "$@" || true; sleep 0.15; }
ask frontend "http://$shop4/products"
ask frontend "http://$shop4/products/42"
ask frontend "http://[$shop6]/products/42"
ask frontend -X POST -H 'X-Shop-Token: s3cret' "http://$shop4/orders"
ask frontend -X POST "http://$shop4/orders"
ask frontend -X DELETE "http://$shop4/products/42"
ask frontend "http://$shop4/products/%2e%2e/admin" --path-as-is
ask frontend "http://$shop4/admin"
ask frontend --http2-prior-knowledge "http://$shop4:81/products"
ask frontend --http2-prior-knowledge "http://$shop4:81/admin"
ask frontend "http://192.0.2.9/"
ask guest "http://$shop4/products"
ask outside "http://$shop4/health"
ask outside "http://[$shop6]/health"
ask outside "http://$shop4/products"

say "gRPC calls and Kafka requests, refused in the words of their protocols"
listens orders 50051
inside frontend "$python" "$here/orders.py" call "$orders" Get Place Cancel >/dev/null
listens broker 9092
# who, what to do, topic
kcat() { echo "order 42" | inside $1 timeout 20 kcat -q -b "$broker" "$2" -t "$3" "${@:4}" >/dev/null 2>&1 || true; sleep 0.15; }
kcat frontend -P orders
kcat frontend -P payments
kcat warehouse -C orders -o beginning -c 1 -p 0
kcat warehouse -C payments -o beginning -c 1 -p 0
sleep 0.5

say "yours to try"
cat <<TEXT
  export TEKTIN_SOCKET=$TEKTIN_SOCKET
  ip netns exec $id-frontend curl -i http://$shop4/products       # allowed
  ip netns exec $id-frontend curl -i http://$shop4/admin          # 403
  ip netns exec $id-frontend $python $here/orders.py call $orders Get Cancel    # done, PERMISSION_DENIED
  echo "order 43" | ip netns exec $id-frontend kcat -P -b $broker -t payments   # Topic authorization failed
  $tektin status; $tektin policy get; $tektin observe --last 20
TEXT
if [ -t 0 ]; then
  echo "Ctrl-C ends the demo and removes everything."
  wait $watcher
fi
