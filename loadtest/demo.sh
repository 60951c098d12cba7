#!/usr/bin/env bash
# A spoken call through the gateway: starts it with the embedded agent, calls it, and ends it again.
# Exits 0 only if the conversation reached its goal.
# Usage: demo.sh DIRECTORY-OF-BINARIES HTTP-ADDRESS ADMIN-ADDRESS OUTPUT-DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 http=$2 admin=$3 out=$4
mkdir -p "$out"

reachable() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

for address in "$http" "$admin"; do
  if reachable "$address"; then
    echo "demo: something else listens on $address already" >&2
    exit 1
  fi
done

TANDEM__HTTP__LISTEN=$http TANDEM__ADMIN__LISTEN=$admin "$bin/tandem" serve >"$out/gateway.log" 2>&1 &
gateway=$!
trap 'kill -INT $gateway 2>/dev/null; wait $gateway 2>/dev/null || true' EXIT

# The listeners open last, once the agent is ready.
for _ in $(seq 200); do
  if reachable "$admin"; then break; fi
  if ! kill -0 $gateway 2>/dev/null; then break; fi
  sleep 0.1
done
if ! reachable "$admin"; then
  echo "demo: the gateway did not start:" >&2
  cat "$out/gateway.log" >&2
  exit 1
fi

"$bin/tandem-load" run loadtest/scenarios/demo.toml \
  --target "ws://$http/twilio/media" --admin "http://$admin" --record "$out/call.wav"
echo "The call, caller left and agent right: $out/call.wav"
