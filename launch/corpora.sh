#!/usr/bin/env bash
# The whole path on real corpora in a few minutes: bash launch/corpora.sh [--dry-run] DATA [DIR]
# DATA holds flickr8k.tar, esc10.tar, storybook.tar and fight_clips.tar. Each is prepared and gets a
# page to look at. A small model is trained on all four together, killed, continued, compared with
# one that was not killed, and evaluated. What is prepared already is kept. STEPS (60) is the number
# of steps.
set -euo pipefail
trap 'exit 130' INT
# shellcheck source=launch/dry_run.sh
. "$(dirname "$0")/dry_run.sh"
if [ $# -lt 1 ] || [ $# -gt 2 ] || [[ $1 = -* ]]; then
    echo "error: use: bash launch/corpora.sh [--dry-run] DATA [DIR]" >&2
    exit 2
fi
if [ ! -d "$1" ]; then
    echo "error: DATA=$1 is no folder; give the one with the archives" >&2
    exit 2
fi
data=$(realpath "$1")
folder=$(realpath -m "${2:-runs/corpora}")
steps=${STEPS:-60}
cd "$(dirname "$0")/.."
. launch/environment.sh
run mkdir -p "$folder"

prepare() { # name, source, archive, flags: shows the report and how long it took
    local name=$1 source=$2 archive=$3 began=$SECONDS
    shift 3
    run "$PYTHON" -m fgmm.data.prepare --source="$source" --input="$data/$archive" \
        --output="$folder/$name" --shard_megabytes=16 "$@"
    if [ -n "$dry_run" ]; then return; fi
    echo "$name: $((SECONDS - began)) s, $(du -sm "$folder/$name" | cut -f1) MB"
}

look() { # name, split, options
    run "$PYTHON" -m fgmm.data.inspect --source="prepared:split=$2,$3" --input="$folder/$1" \
        --output="$folder/$1.html" --records=12 --sample=100
}

train() { # workdir: on pictures with captions, sounds, picture books and clips of cameras
    local all="$folder/flickr8k+$folder/storybook+$folder/esc10@whole+$folder/fight_clips@whole"
    local variants="root=$all,weights=4+2+1+1,validation=dev,steps=$steps,batch=32,size=64"
    local command=("$PYTHON" -m fgmm.main --workdir="$folder/$1"
        --config="configs/prepared.py:$variants,tokenizer=$folder/captions.model"
        --config.checkpoint.every_steps=10 --config.evals.validation.every=0)
    if [ -n "$dry_run" ]; then run "${command[@]}" && return; fi
    # The trainer takes the place of the shell, so that `kill` reaches the trainer.
    exec "${command[@]}"
}

prepare flickr8k flickr8k flickr8k.tar --splits=train,dev
prepare storybook image_sequence storybook.tar --short_side=128
prepare esc10 esc10 esc10.tar --audio_rate=16000
prepare fight_clips fight_clips fight_clips.tar --short_side=112 --audio_rate=16000
look flickr8k dev seconds=2.0
look storybook train seconds=2.0
look esc10 whole seconds=2.0
look fight_clips whole seconds=2.0

entry() { echo "'$1': {'name': 'prepared', 'root': '$folder/$1'}"; }
run "$PYTHON" -m fgmm.data.tokenizer train --source=mixture --vocabulary_size=4000 \
    --option="sources={$(entry flickr8k), $(entry storybook)}" --output="$folder/captions.model"

compare() { # workdirs of two runs, which must have the same losses
    "$PYTHON" - "$@" <<'COMPARE'
import json, pathlib, sys

runs = [pathlib.Path(workdir, "metrics.jsonl") for workdir in sys.argv[1:]]
losses = [{line["step"]: line["loss"] for line in map(json.loads, run.open())} for run in runs]
assert losses[0] == losses[1], "the run that was killed has other losses"
print(f"killed and continued: the same {len(losses[0])} losses")
COMPARE
}

kill_at() { # checkpoint, workdir: trains until it is there
    train "$2" &
    local process=$!
    until [ -d "$folder/$2/checkpoints/$1" ]; do
        kill -0 "$process"
        sleep 0.2
    done
    kill -9 "$process"
    wait "$process" || true
}

(train whole)
if [ -z "$dry_run" ]; then rm -rf "$folder/killed" && kill_at 20 killed; fi
(train killed)
if [ -z "$dry_run" ]; then compare "$folder/whole" "$folder/killed"; fi

probe() { # corpus, label, modality
    run "$PYTHON" -m fgmm.eval.linear_probe --workdir="$folder/killed" --output="$folder/$1-probe.json" \
        --config="eval/linear_probe:corpus=prepared,root=$folder/$1,label=$2,modality=$3"
}
probe esc10 sound audio
probe fight_clips action video
if [ -z "$dry_run" ]; then echo "pages to look at: $folder/*.html"; fi
