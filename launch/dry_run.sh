# shellcheck shell=bash
# To be sourced, without arguments, before a script reads its arguments: it takes --dry-run from
# their front. With --dry-run, `run COMMAND ...` prints the command instead of running it, and
# launch/environment.sh makes nothing.

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=1 && shift; fi

run() {
    if [ -z "$dry_run" ]; then
        "$@"
        return
    fi
    local word words=()
    for word in "$@"; do
        if [[ ! $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then word=${word@Q}; fi
        words+=("$word")
    done
    echo "${words[*]}"
}
