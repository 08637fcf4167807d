#!/usr/bin/env bash
# The demo: a shop (nginx), a front end, a guest and an outside host, each in a network namespace
# of its own, joined to a node namespace in which Tektin runs. Requests are made, and each is shown
# with who, what, verdict and the rule that decided. Then everything stays for you to try, until
# Ctrl-C (or until standard input ends, where it is no terminal). Nothing is left behind.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tektin=$(realpath -m "${TEKTIN:-$here/../../target/debug/tektin}")
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "demo: needs root (network namespaces, eBPF)" >&2; exit 1; }
[ -x "$tektin" ] || { echo "demo: $tektin is not built: run 'make demo'" >&2; exit 1; }

id=tek-demo-$$
node=$id-node outside=$id-outside
dir=$(mktemp -d)
pins=/sys/fs/bpf/tektin-demo-$$
export TEKTIN_SOCKET=$dir/run/agent.sock
step=0
say() { step=$((step + 1)); printf '\033[1m[%d/6]\033[0m %s\n' $step "$*"; }

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

say "network namespaces: a node, three workloads, an outside host"
for n in node shop frontend guest outside; do ip netns add $id-$n; ip -n $id-$n link set lo up; done
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

say "three endpoints with their labels, and a real nginx as the shop"
for app in shop frontend guest; do
  "$tektin" endpoint add $app --netns $id-$app --namespace demo --label app=$app >/dev/null
done
"$tektin" endpoint list
address() { "$tektin" endpoint get shop --output json | sed -n "s/.*\"ipv$1\": *\"\([^\"]*\)\".*/\1/p"; }
shop4=$(address 4)
shop6=$(address 6)
mkdir "$dir/nginx"
ip netns exec $id-shop nginx -p "$dir/nginx" -c "$here/nginx.conf" 2>/dev/null &
disown
for _ in $(seq 100); do ip netns exec $id-shop curl -so /dev/null -m 1 http://127.0.0.1/ && break; sleep 0.1; done

say "the policy ($here/policy.yaml)"
"$tektin" policy apply "$here/policy.yaml"

say "requests, each with the rule that decided"
# Without the "redirected" ones: each connection handed to the proxy is followed by its requests.
"$tektin" observe --follow --verdict forwarded --verdict denied --verdict dropped --verdict refused --verdict error &
watcher=$!
sleep 0.7
# from, what to run (the answer itself is not shown: the table is)
ask() { local from=$1; shift; ip netns exec $id-$from curl -s -o /dev/null -m 1 "$@" || true; sleep 0.15; }
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
sleep 0.5

say "yours to try"
cat <<TEXT
  export TEKTIN_SOCKET=$TEKTIN_SOCKET
  ip netns exec $id-frontend curl -i http://$shop4/products       # allowed
  ip netns exec $id-frontend curl -i http://$shop4/admin          # 403
  $tektin status; $tektin policy get; $tektin observe --last 20
TEXT
if [ -t 0 ]; then
  echo "Ctrl-C ends the demo and removes everything."
  wait $watcher
fi
