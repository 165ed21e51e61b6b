#!/usr/bin/env bash
# Trains configs/quickstart.py on this machine, evaluates it and writes a page on it:
# bash launch/quickstart.sh [--dry-run] [DIR]
set -euo pipefail
trap 'exit 130' INT
# shellcheck source=launch/dry_run.sh
. "$(dirname "$0")/dry_run.sh"
if [ $# -gt 1 ] || [[ ${1:-} = -* ]]; then
    echo "error: use: bash launch/quickstart.sh [--dry-run] [DIR]" >&2
    exit 2
fi
workdir=$(realpath -m "${1:-runs/quickstart}")
cd "$(dirname "$0")/.."
. launch/environment.sh

run "$PYTHON" -m fgmm.main --config=configs/quickstart.py --workdir="$workdir"
echo
run "$PYTHON" -m fgmm.eval.retrieval --workdir="$workdir"
echo
run "$PYTHON" -m fgmm.eval.linear_probe --workdir="$workdir" --config=eval/linear_probe:corpus=motion
echo
run "$PYTHON" -m fgmm.eval.pointing_game --workdir="$workdir" \
    --config=eval/pointing_game:corpus=narrated_shapes
echo
run "$PYTHON" -m fgmm.report.build --workdir="$workdir"
echo
echo "checkpoints:  $workdir/checkpoints"
echo "every step:   $workdir/metrics.jsonl (TensorBoard: $workdir/events)"
echo "open in a browser: $workdir/report/index.html"
