#!/usr/bin/env bash
# Trains on all workers of a TPU VM or pod slice, which gcloud has made (docs/distributed.md):
#   bash launch/tpu_pod.sh [--dry-run] setup NAME            brings the last commit to every worker
#                                                            and makes .venv there
#   bash launch/tpu_pod.sh [--dry-run] start NAME --config=configs/X.py --workdir=DIR [...]
#   bash launch/tpu_pod.sh [--dry-run] follow NAME           shows the output until training ends;
#                                                            exit code: 0 if it is done, 143 if it
#                                                            was stopped, another if a worker failed
#   bash launch/tpu_pod.sh [--dry-run] stop NAME             everything is saved; `start` goes on
# DIR is on storage that all workers share. ZONE and PROJECT are those of gcloud, by default those
# in its configuration. PYTHON3 is the workers' interpreter that .venv is made from. Training goes
# on when the connection is lost.
set -euo pipefail
# shellcheck source=launch/dry_run.sh
. "$(dirname "$0")/dry_run.sh"
cd "$(dirname "$0")/.."

usage() {
    echo "error: $1; use: bash launch/tpu_pod.sh [--dry-run] setup|start|follow|stop NAME [flags]" >&2
    exit 2
}

stage=${1:-} name=${2:-}
case $stage in
setup | follow | stop) if [ $# -gt 2 ]; then usage "$stage takes no argument '$3'"; fi ;;
start) if [ $# -lt 3 ]; then usage "start needs the flags of fgmm.main"; fi ;;
*) usage "unknown command '$stage'" ;;
esac
if [ -z "$name" ] || [[ $name = -* ]]; then usage "the name of the TPU is missing"; fi
if [ -z "$dry_run" ] && ! command -v gcloud >/dev/null; then
    echo "error: no gcloud; install the Google Cloud CLI" >&2
    exit 2
fi

to_all=("$name" --worker=all ${ZONE:+"--zone=$ZONE"} ${PROJECT:+"--project=$PROJECT"})
on_all() { run gcloud compute tpus tpu-vm ssh "${to_all[@]}" "--command=$1"; }

# Files on each worker: train.pid, train.log and, once training has ended, train.exit.
# shellcheck disable=SC2016  # the workers expand it
alive='pid=$(cat train.pid 2>/dev/null) && kill -0 "$pid" 2>/dev/null'

case $stage in
setup)
    bundle=/tmp/fgmm.bundle
    if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
        echo "warning: what is not committed is not brought over" >&2
    fi
    run git bundle create -q "$bundle" HEAD
    run gcloud compute tpus tpu-vm scp "$bundle" "$name:$bundle" "${to_all[@]:1}"
    on_all "set -e; git init -q fgmm; cd fgmm; git fetch -q $bundle HEAD; \
git checkout -q --force --detach FETCH_HEAD; \
EXTRA=tpu ${PYTHON3:+PYTHON3=$PYTHON3 }bash -c 'set -e; . launch/environment.sh'"
    ;;
start)
    flags=$(printf ' %q' "${@:3}")
    on_all "cd fgmm || exit; if $alive; then echo 'error: it is training already' >&2; exit 2; fi; \
rm -f train.pid train.exit; \
nohup bash -c '\"\$@\" & echo \$! >train.pid; wait \$!; echo \$? >train.exit' _ \
.venv/bin/python -m fgmm.main$flags >train.log 2>&1 </dev/null & \
until [ -s train.pid ]; do sleep 0.1; done"
    ;;
follow)
    on_all "cd fgmm || exit; tail -n +1 --follow --pid=\"\$(cat train.pid)\" train.log; sleep 1; \
exit \"\$(cat train.exit)\""
    ;;
stop)
    on_all "cd fgmm || exit; if $alive; then kill -TERM \"\$pid\"; fi; \
while $alive; do sleep 1; done; tail -n 1 train.log"
    ;;
esac
