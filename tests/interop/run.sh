#!/usr/bin/env bash
# Google's own client and server classes, and other people's SIP programs and WebRTC stacks, against ours: installs the first
# in OUT/venv and runs the tests of this directory. Where they cannot be installed it says so and exits 0, since that is no
# fault of ours; a program or a stack that is missing skips its own tests alone.
# Usage: run.sh DIRECTORY-OF-BINARIES OUTPUT-DIRECTORY [PYTEST-ARGUMENT…]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2"
bin=$(cd "$1" && pwd) out=$(cd "$2" && pwd)
shift 2
venv=$out/venv log=$out/install.log

skip() {
  # Nobody reads the middle of a build log, so there the line stands in a frame.
  if [ "${CI:-}" = true ]; then printf '%.0s#' {1..100}; echo; fi
  echo "interop: SKIPPED: $1"
  if [ "${CI:-}" = true ]; then printf '%.0s#' {1..100}; echo; fi
  exit 0
}

last_words() { grep -v '^ *$' "$log" | tail -n 1; }

make_venv() {
  if python3 -m venv --clear "$venv" >"$log" 2>&1; then return; fi
  # Debian's python3 comes without ensurepip; virtualenv brings its own.
  if ! command -v virtualenv >/dev/null; then
    skip "python3 cannot make a virtual environment; install the package python3-venv, or virtualenv"
  fi
  virtualenv -q --clear "$venv" >"$log" 2>&1 || skip "virtualenv failed: $(last_words)"
}

# A registry that cannot be reached should not hold a build for long.
pip_install() {
  timeout 300 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 \
    --requirement "$1" >"$log" 2>&1
}

install() {
  local wanted=$here/requirements.txt stamp=$venv/installed
  if cmp -s "$wanted" "$stamp" && "$venv/bin/python" -c 'import pytest' 2>/dev/null; then return; fi
  make_venv
  pip_install "$wanted" || skip "pip cannot install Google's package: $(last_words)"
  cp "$wanted" "$stamp"
}

install_webrtc() {
  local wanted=$here/requirements-webrtc.txt stamp=$venv/installed-webrtc
  if cmp -s "$wanted" "$stamp" && "$venv/bin/python" -c 'import aiortc' 2>/dev/null; then return; fi
  if pip_install "$wanted"; then
    cp "$wanted" "$stamp"
  else
    echo "interop: pip cannot install aiortc, so its tests will be skipped: $(last_words)"
  fi
}

for program in tandem tandem-load; do
  if [ ! -x "$bin/$program" ]; then
    echo "interop: there is no $bin/$program; build it first" >&2
    exit 1
  fi
done
command -v python3 >/dev/null || skip "there is no python3"
install
install_webrtc

# Every wait in the tests has its own limit; this one is for what was forgotten. INT lets them end what they started.
run_tests() {
  local status=0
  INTEROP_BIN=$bin INTEROP_OUT=$out PYTHONPYCACHEPREFIX=$out/pycache \
    timeout --signal=INT --kill-after=20 900 \
    "$venv/bin/python" -m pytest -q -rfEs -o cache_dir="$out/cache" --durations=5 --durations-min=2 "$@" "$here" || status=$?
  if [ "$status" = 124 ]; then echo "interop: not done within 900 s" >&2; fi
  return "$status"
}

status=0
run_tests -n "${INTEROP_WORKERS:-3}" --dist loadfile "$@" || status=$?
# 1: some failed. All of this is in real time, and a machine that is shared may stand still for a second.
if [ "$status" = 1 ]; then
  status=0
  echo "interop: FLAKY unless they fail again; those that failed are tried once more, one after another"
  run_tests -n 0 --last-failed "$@" || status=$?
fi
exit "$status"
