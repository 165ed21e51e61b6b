#!/usr/bin/env bash
# Tries launch/slurm.sbatch under a SLURM of its own on this machine, as root on Debian:
#   bash launch/try_slurm.sh [--dry-run]
# Installs SLURM's packages if they are missing, starts munged, slurmctld and slurmd in a temporary
# folder on free ports, and submits jobs of two tasks on the CPU. One is requeued and then
# preempted; it must have the losses of an uninterrupted run of launch/local.sh. One reaches its
# time limit (MINUTES, 3: the first step has to come within half of it), one reaches it without a
# step, and one is a wrong command. Takes about ten minutes; STEPS (200) is the number of steps of
# the first job.
# When the script ends, it ends everything that it started. The logs stay if a check failed.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/dry_run.sh
. launch/environment.sh
steps=${STEPS:-200}
shrunken=(--config=configs/quickstart.py --config.batch_size=16 --config.checkpoint.every_steps=20
    --config.data.height=32 --config.data.width=32 --config.data.frames=4
    --config.evals.retrieval.every=0 --config.evals.retrieval.source.clips=64
    --config.progress=False)
folder=/tmp/fgmm-slurm
if [ -z "$dry_run" ]; then folder=$(mktemp -d /tmp/fgmm-slurm.XXXXXX) && chmod 755 "$folder"; fi
export SLURM_CONF=$folder/slurm.conf JAX_PLATFORMS=cpu PYTHON

ports=$("$PYTHON" -c 'import socket
bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in bound))' 2>/dev/null || echo 6817 6818)

configuration() {
    cat <<END
ClusterName=fgmm
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports% *}
SlurmdPort=${ports#* }
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits for its credential to expire.
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=60
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=2
END
}

daemons=()
finish() {
    local status=$?
    trap - EXIT
    # A job would go on without its daemons.
    scancel --user=root 2>/dev/null || true
    for ((i = 0; i < 120; i++)); do
        if [ -z "$(squeue --noheader 2>/dev/null)" ]; then break; fi
        sleep 1
    done
    if [ "${#daemons[@]}" -gt 0 ]; then kill "${daemons[@]}" 2>/dev/null && wait; fi
    if [ "$status" = 0 ]; then rm -rf "$folder"; else echo "failed; the logs are in $folder" >&2; fi
    exit "$status"
}

start_daemons() {
    mkdir -p "$folder/state" "$folder/spool"
    configuration >"$SLURM_CONF"
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munge.pid" --log-file="$folder/munge.log" \
        --seed-file="$folder/munge.seed" >"$folder/munged.out" 2>&1 &
    daemons+=($!)
    await 30 test -S "$folder/munge.socket"
    slurmctld -D -c >"$folder/slurmctld.out" 2>&1 &
    daemons+=($!)
    slurmd -D -N localhost >"$folder/slurmd.out" 2>&1 &
    daemons+=($!)
    await 60 node_is_idle
}
node_is_idle() { sinfo --noheader --partition=low --format=%T 2>/dev/null | grep -qx idle; }

# Waits up to $1 seconds for a condition.
await() {
    local deadline=$((SECONDS + $1))
    until "${@:2}"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "error: not within $1 s: ${*:2}" >&2
            exit 1
        fi
        sleep 1
    done
}
steps_of() { grep -c . "$folder/$1/metrics.jsonl" 2>/dev/null || true; }
is_past_step() { [ "$(steps_of "$1")" -gt "$2" ] 2>/dev/null; }
has_gone_on() { grep -q '"from_step": [1-9]' "$folder/$1/provenance.jsonl" 2>/dev/null; }
is_in_state() { [[ $(scontrol --oneliner show job "$1") = *" JobState=$2 "* ]]; }
# Waits up to $4 seconds for job $1 to end in the state $3, and shows how often it was restarted and
# its exit code, which must be $5.
check() {
    await "$4" is_in_state "$1" "$3"
    local shown
    shown=$(scontrol --oneliner show job "$1" | grep -oE '(Restarts|ExitCode)=[^ ]*' | xargs)
    echo "$2: $3, $shown"
    if ! grep -qE "^$5$" <<<"$shown"; then echo "error: expected $5" >&2 && exit 1; fi
}

submit() {
    local name=$1
    run sbatch --parsable --ntasks-per-node=2 --chdir="$PWD" --output="$folder/$name.log" "${@:2}"
}

requeued_and_preempted() {
    local job other flags=("${shrunken[@]}" "--config.steps=$steps")
    job=$(submit requeued --time=30 launch/slurm.sbatch "${flags[@]}" "--workdir=$folder/requeued")
    await 600 is_past_step requeued 0
    scontrol requeue "$job"
    await 600 has_gone_on requeued
    await 600 is_past_step requeued "$(steps_of requeued)"
    other=$(submit urgent --partition=high --wrap='sleep 5')
    await 120 is_in_state "$other" COMPLETED
    check "$job" "requeued, then preempted" COMPLETED 1200 "Restarts=2 ExitCode=0:0"
    bash launch/local.sh 2 "${flags[@]}" "--workdir=$folder/whole" >"$folder/whole.log" 2>&1
    "$PYTHON" - "$folder/requeued" "$folder/whole" "$steps" <<'END'
import json
import pathlib
import sys


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


interrupted, whole = (pathlib.Path(path) for path in sys.argv[1:3])
starts = [start["from_step"] for start in read(interrupted / "provenance.jsonl")]
print("  starts at steps", *starts)
assert len(starts) == 3 and starts[0] == 0 < starts[1] < starts[2], starts
pairs = list(zip(*(read(run / "metrics.jsonl") for run in (interrupted, whole)), strict=True))
for step, (a, b) in enumerate(pairs, start=1):
    assert a["step"] == b["step"] == step, step
apart = [abs(a["loss"] / b["loss"] - 1) for a, b in pairs]
equal = sum(difference == 0 for difference in apart)
print(f"  {equal} of {sys.argv[3]} losses equal to the bit, farthest {max(apart):.0e}")
assert len(pairs) == int(sys.argv[3]) and max(apart) <= 1e-3
END
}

time_limit() {
    local job
    job=$(submit limited "--time=${MINUTES:-3}" --signal=B:USR1@60 launch/slurm.sbatch \
        "${shrunken[@]}" --config.steps=1000000 "--workdir=$folder/limited")
    await 1200 has_gone_on limited
    grep -h 'time limit is near\|stopped at step\|requeued\|continuing' "$folder/limited.log" |
        sed 's/^/  /'
    await 600 is_past_step limited "$(steps_of limited)"
    scancel "$job"
    check "$job" "time limit, then scancel" CANCELLED 120 "Restarts=[1-9] ExitCode=.*"
    grep 'stopped at step' "$folder/limited.log" | tail -n 1 | sed 's/^/  /'
    [ "$(grep -c 'stopped at step .* saved' "$folder/limited.log")" -ge 2 ]
}

# The time limit comes before the first step.
no_progress() {
    local job
    # This runs in the place of Python and never comes to a step.
    printf '#!/bin/sh\nexec sleep 3600\n' >"$folder/hopeless.sh"
    chmod +x "$folder/hopeless.sh"
    job=$(PYTHON=$folder/hopeless.sh MAX_STARTS=2 submit hopeless --time=1 --signal=B:USR1@40 \
        launch/slurm.sbatch \
        "${shrunken[@]}" --config.steps=1000000 "--workdir=$folder/hopeless")
    check "$job" "no progress" FAILED 600 "Restarts=1 ExitCode=[1-9].*"
    grep -h error: "$folder/hopeless.log" | tail -n 1 | sed 's/^/  /'
}

wrong_command() {
    local job
    job=$(submit wrong launch/slurm.sbatch "${shrunken[@]}" --config.batch_size=15 \
        "--workdir=$folder/wrong")
    check "$job" "wrong command" FAILED 300 "Restarts=0 ExitCode=2:0"
    grep -h error: "$folder/wrong.log" | head -n 1 | sed 's/^/  /'
}

packages=(slurmctld slurmd slurm-client munge)
if [ -n "$dry_run" ] || ! command -v slurmctld slurmd sbatch munged >/dev/null; then
    run apt-get update -q
    run apt-get install -qy --no-install-recommends "${packages[@]}"
fi
if [ -n "$dry_run" ]; then
    configuration
    submit requeued --time=30 launch/slurm.sbatch "${shrunken[@]}" "--config.steps=$steps" \
        "--workdir=$folder/requeued"
    exit
fi
trap finish EXIT
trap 'exit 130' INT TERM
start_daemons
requeued_and_preempted
time_limit
no_progress
wrong_command
