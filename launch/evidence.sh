#!/usr/bin/env bash
# The comparison of coarse and fine in docs/results.md, one core a run:
#   bash launch/evidence.sh tune DIR   every arm at three learning rates, one seed
#   bash launch/evidence.sh run DIR    every arm as tuned (TUNED in configs/evidence.py), three seeds,
#                                      all evaluations, one JSON file a run in DIR/results
# BATCHES="32 256" and JOBS=2 say which batch sizes, and how many runs at a time. What is done is
# not done again, so it may be interrupted.
set -euo pipefail
stage=${1:?tune or run} folder=$(realpath -m "${2:?a folder for the runs}")
cd "$(dirname "$0")/.."
. launch/environment.sh
mkdir -p "$folder"

arms="coarse softmax logsumexp softmax_coarse weighted_coarse"

jobs_of_stage() {
    for batch in ${BATCHES:-32 256}; do
        for arm in $arms; do
            if [ "$stage" = tune ]; then
                for rate in 0.001 0.002 0.004; do
                    echo "tune-$arm-batch$batch-rate$rate 100" \
                        "arm=$arm,batch=$batch,examples=6400,rate=$rate,corpus=1"
                done
            else
                for seed in 0 1 2; do
                    echo "$arm-batch$batch-seed$seed $seed arm=$arm,batch=$batch"
                done
            fi
        done
    done
}

one_run() {
    local name=$1 seed=$2 variant=$3 workdir=$folder/$1
    [ -e "$folder/results/$name.json" ] && return
    echo "$name"
    taskset -c "$((SLOT % $(nproc)))" "$PYTHON" -m fgmm.main --workdir="$workdir" \
        --config="configs/evidence.py:$variant" --config.seed="$seed" --config.progress=False
    "$PYTHON" -m fgmm.eval.retrieval --workdir="$workdir"
    if [ "$stage" = run ]; then
        for protocol in linear_probe_motion.py:size=48 linear_probe_sound.py; do
            "$PYTHON" -m fgmm.eval.linear_probe --workdir="$workdir" \
                --config="configs/eval/$protocol"
        done
        "$PYTHON" -m fgmm.eval.pointing_game --workdir="$workdir" \
            --config=configs/eval/pointing_game_narrated_shapes.py:size=48
    fi
    "$PYTHON" -m fgmm.report.result --workdir="$workdir" --output="$folder/results/$name.json"
}

export -f one_run
export PYTHON folder stage
jobs_of_stage | xargs -P "${JOBS:-2}" --process-slot-var=SLOT -L 1 \
    bash -c 'set -eo pipefail; one_run "$@" >>"$folder/$1.log" 2>&1 || echo "failed: $1, see $folder/$1.log"' _
