#!/usr/bin/env bash
# Trains the cells of a study, two at a time on two cores, and makes a page of their results:
#   bash launch/study.sh [--dry-run] --short [DIR]       fine against coarse at a batch of 32, three
#                                                        seeds; FINE and COARSE name other arms
#   bash launch/study.sh [--dry-run] [DIR] [FLAG ...]    the study CONFIG, by default
#                                                        configs/study/narrated_shapes.py; flags go
#                                                        to fgmm.study, such as --select=arm=symmetric
# Finished cells are not run again, so the script may be interrupted.
set -euo pipefail
# shellcheck source=launch/dry_run.sh
. "$(dirname "$0")/dry_run.sh"
config=${CONFIG:-configs/study/narrated_shapes.py} name=study
if [ "${1:-}" = --short ]; then
    shift
    config=configs/study/narrated_shapes.py:part=short${FINE:+,fine=$FINE}${COARSE:+,coarse=$COARSE}
    name=study_short
fi
folder=runs/$name
if [ $# -gt 0 ] && [[ $1 != --* ]]; then folder=$1 && shift; fi
folder=$(realpath -m "$folder")
cd "$(dirname "$0")/.."
. launch/environment.sh

failed=0
run "$PYTHON" -m fgmm.study --config="$config" --output="$folder" "$@" || failed=$?
# Some cells may have failed; the page then shows the others.
if [ "$failed" -gt 1 ] || [[ " $* " = *" --dry_run "* ]]; then exit "$failed"; fi
run "$PYTHON" -m fgmm.study.page --results="$folder/results" --output="$folder/page.md"
exit "$failed"
