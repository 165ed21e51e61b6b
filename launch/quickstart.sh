#!/usr/bin/env bash
# Trains configs/quickstart.py on this machine and evaluates it: bash launch/quickstart.sh [DIR]
set -euo pipefail
trap 'exit 130' INT
workdir=$(realpath -m "${1:-runs/quickstart}")
cd "$(dirname "$0")/.."
. launch/environment.sh

"$PYTHON" -m fgmm.main --config=configs/quickstart.py --workdir="$workdir"
echo
"$PYTHON" -m fgmm.eval.retrieval --workdir="$workdir"
echo
echo "checkpoints:  $workdir/checkpoints"
echo "every step:   $workdir/metrics.jsonl (TensorBoard: $workdir/events)"
