#!/usr/bin/env bash
# Spoken calls through the gateway, one by each ingress: starts it with the embedded agent, calls it, and ends it again.
# Exits 0 only if each conversation reached its goal.
# Usage: demo.sh DIRECTORY-OF-BINARIES HTTP-ADDRESS ADMIN-ADDRESS SIP-ADDRESS WEBRTC-ADDRESS OUTPUT-DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 http=$2 admin=$3 sip=$4 webrtc=$5 out=$6
mkdir -p "$out"

reachable() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

for address in "$http" "$admin" "$sip"; do
  if reachable "$address"; then
    echo "demo: something else listens on $address already" >&2
    exit 1
  fi
done

TANDEM__HTTP__LISTEN=$http TANDEM__ADMIN__LISTEN=$admin TANDEM__SIP__LISTEN="udp:$sip,tcp:$sip" \
  TANDEM__WEBRTC__LISTEN=$webrtc "$bin/tandem" serve >"$out/gateway.log" 2>&1 &
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

call() {
  local ingress=$1 target=$2
  echo "== a call by $ingress: $target"
  "$bin/tandem-load" run loadtest/scenarios/demo.toml \
    --target "$target" --admin "http://$admin" --record "$out/$ingress.wav"
  echo "The call, caller left and agent right: $out/$ingress.wav"
}

call twilio "ws://$http/twilio/media"
call sip "sip:demo@$sip"
call whip "http://$http/whip/demo"
