#!/usr/bin/env bash
# Trains with N processes on this machine:
#   bash launch/local.sh [--dry-run] N --config=configs/X.py --workdir=DIR [flags of fgmm.main]
# The output of process 0 is shown. That of the others goes to files in LOGS (by default a new
# folder in ${TMPDIR:-/tmp}); if one of them fails first, the end of its file is shown.
# SIGTERM, SIGINT and SIGHUP are passed on to all processes. When one fails, the others get SIGTERM
# at once and SIGKILL after GRACE seconds (10).
# Exit code: 0, or that of the first process that ended without being done. It is 143 or 130 if all
# were stopped by SIGTERM or Ctrl-C and have saved.
# GPUs (those of CUDA_VISIBLE_DEVICES, if it is set) are shared out evenly if N divides their
# number. PORT is where the processes meet, by default a free port. PYTHON is the interpreter, by
# default that of .venv, which is made if it is missing.
set -euo pipefail

usage() {
    echo "error: $1; use: bash launch/local.sh [--dry-run] N [flags of fgmm.main]" >&2
    exit 2
}

# shellcheck source=launch/dry_run.sh
. "$(dirname "$0")/dry_run.sh"
count=${1:-}
[[ $count =~ ^[1-9][0-9]*$ ]] || usage "N must be a whole number from 1, not '$count'"
shift

here=$PWD
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then . launch/environment.sh; fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
cd "$here"

if [ -z "${PORT:-}" ]; then
    PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])' 2>/dev/null) || PORT=12321
fi
gpus=()
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
elif command -v nvidia-smi >/dev/null; then
    mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader | grep -x '[0-9]*')
fi

# Sets `words` to the command of process $1.
command_of() {
    words=()
    local each=$((${#gpus[@]} / count)) IFS=,
    if [ "$each" -gt 0 ] && [ "$((${#gpus[@]} % count))" = 0 ]; then
        words+=(env "CUDA_VISIBLE_DEVICES=${gpus[*]:each * $1:each}")
    fi
    words+=("$PYTHON" -m fgmm.main "${@:2}" "--coordinator_address=127.0.0.1:$PORT"
        "--process_count=$count" "--process_index=$1")
}

if [ -n "$dry_run" ]; then
    for ((i = 0; i < count; i++)); do
        command_of "$i" "$@"
        run "${words[@]}"
    done
    exit
fi

LOGS=${LOGS:-$(mktemp -d "${TMPDIR:-/tmp}/fgmm-local.XXXXXX")}
mkdir -p "$LOGS"

pids=()
pass_on() {
    for pid in "${pids[@]}"; do kill -s "$1" "$pid" 2>/dev/null || true; done
}
alive() {
    for pid in "${pids[@]}"; do if kill -0 "$pid" 2>/dev/null; then return 0; fi; done
    return 1
}
for name in TERM INT HUP; do
    # shellcheck disable=SC2064  # the name of now
    trap "pass_on $name" "$name"
done

# With job control every process has a group of its own: Ctrl-C reaches only this script, which
# passes it on once.
set -m
for ((i = 0; i < count; i++)); do
    command_of "$i" "$@"
    if [ "$i" = 0 ]; then
        "${words[@]}" </dev/null &
    else
        "${words[@]}" </dev/null >"$LOGS/$i.log" 2>&1 &
    fi
    pids+=($!)
done
set +m

left=("${!pids[@]}")
while [ "${#left[@]}" -gt 0 ]; do
    waited=("${left[@]}")
    left=()
    for i in "${waited[@]}"; do
        if kill -0 "${pids[$i]}" 2>/dev/null; then
            left+=("$i")
            continue
        fi
        status=0
        wait "${pids[$i]}" || status=$?
        if [ "$status" != 0 ]; then
            break 2
        fi
    done
    # A signal ends this sleep, so it is passed on at once.
    if [ "${#left[@]}" -gt 0 ]; then sleep 0.5 & wait $! || true; fi
done
if [ "${status:-0}" = 0 ]; then exit 0; fi

# After a wrong command (2) all processes end by themselves, and process 0 says why. After a request
# to stop (130, 143) they end by themselves too.
together=0
case $status in
2) together=20 ;;
130 | 143) together=$((10 * ${GRACE:-10})) ;;
esac
for ((tenths = 0; tenths < together; tenths++)); do
    if ! alive; then break; fi
    sleep 0.1
done
if alive || [ "$together" = 0 ]; then
    echo "error: process $i of $count ended with code $status; ending the others" >&2
fi
pass_on TERM
for ((tenths = 0; tenths < 10 * ${GRACE:-10}; tenths++)); do
    if ! alive; then break; fi
    sleep 0.1
done
pass_on KILL
if [ "$i" != 0 ] && [ -s "$LOGS/$i.log" ]; then
    echo "the end of $LOGS/$i.log:" >&2
    tail -n 20 "$LOGS/$i.log" >&2
fi
exit "$status"
