#!/usr/bin/env bash
# The comparison of coarse and fine in docs/results.md, one core a run:
#   bash launch/evidence.sh tune DIR   every arm at four learning rates and at twice its own
#                                      temperature, one seed, retrieval alone
#   bash launch/evidence.sh run DIR    every arm with the values in configs/evidence.py, three seeds,
#                                      all evaluations
# One JSON file a run in DIR/results. BATCHES="32 256", ARMS="coarse ..." and JOBS=2 say which, and
# how many at a time. What is done is not done again, so it may be interrupted. With --dry-run in
# front it prints what is left to do.
set -euo pipefail
# shellcheck source=launch/dry_run.sh
. "$(dirname "$0")/dry_run.sh"
stage=${1:?tune or run} folder=$(realpath -m "${2:?a folder for the runs}")
cd "$(dirname "$0")/.."
. launch/environment.sh
run mkdir -p "$folder"

list_runs() {
    for batch in ${BATCHES:-32 256}; do
        for arm in ${ARMS:-coarse softmax logsumexp softmax_coarse weighted_coarse}; do
            case $stage in
            tune)
                for rate in 0.002 0.004 0.008 0.016; do
                    echo "tune-$arm-batch$batch-rate$rate 100" \
                        "arm=$arm,batch=$batch,examples=6400,rate=$rate,corpus=1"
                done
                echo "tune-$arm-batch$batch-twice 100" \
                    "arm=$arm,batch=$batch,examples=6400,temperature_times=2.0,corpus=1"
                ;;
            run)
                for seed in 0 1 2; do
                    echo "$arm-batch$batch-seed$seed $seed arm=$arm,batch=$batch"
                done
                ;;
            *)
                echo "error: $stage is neither tune nor run" >&2
                exit 2
                ;;
            esac
        done
    done
}

one_run() {
    local name=$1 seed=$2 variant=$3 workdir=$folder/$1
    if [ -e "$folder/results/$name.json" ]; then return; fi
    run taskset -c "$((SLOT % $(nproc)))" "$PYTHON" -m fgmm.main --workdir="$workdir" \
        --config="configs/evidence.py:$variant" --config.seed="$seed" --config.progress=False
    run "$PYTHON" -m fgmm.eval.retrieval --workdir="$workdir"
    if [ "$stage" = run ]; then
        for protocol in linear_probe_motion.py:size=48 linear_probe_sound.py; do
            run "$PYTHON" -m fgmm.eval.linear_probe --workdir="$workdir" \
                --config="configs/eval/$protocol"
        done
        run "$PYTHON" -m fgmm.eval.pointing_game --workdir="$workdir" \
            --config=configs/eval/pointing_game_narrated_shapes.py:size=48
    fi
    run "$PYTHON" -m fgmm.report.result --workdir="$workdir" --output="$folder/results/$name.json"
}

runs=$(list_runs)
if [ -n "$dry_run" ]; then
    while read -r name seed variant; do SLOT=0 one_run "$name" "$seed" "$variant"; done <<<"$runs"
    exit
fi
export -f one_run run
export PYTHON folder stage dry_run
# A shell of its own for each run: within `... || ...` a function would go on after a failure.
# shellcheck disable=SC2016  # it is the inner shells that expand it
xargs -P "${JOBS:-2}" --process-slot-var=SLOT -L 1 bash -c '
    echo "$1"
    bash -c "set -euo pipefail; one_run \"\$@\"" _ "$@" >"$folder/$1.log" 2>&1 ||
        { echo "failed: $1, see $folder/$1.log" >&2; exit 1; }' _ <<<"$runs"
