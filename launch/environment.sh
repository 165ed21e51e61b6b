# shellcheck shell=bash
# Makes .venv with the pinned dependencies; to be sourced, with EXTRA set to an extra of setup.py.
# Afterwards $PYTHON is its interpreter. Set PYTHON3 to choose the interpreter it is made from.
# Makes nothing in a dry run (launch/dry_run.sh).

PYTHON=$PWD/.venv/bin/python
if [ -n "${dry_run:-}" ]; then return; fi

extra=${EXTRA:-}
interpreter=${PYTHON3:-python3}

if ! command -v "$interpreter" >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-venv
    else
        echo "error: no $interpreter; install Python 3.11 or newer (apt-get install python3-venv)" >&2
        exit 2
    fi
fi
if ! "$interpreter" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: $("$interpreter" --version) is too old; set PYTHON3 to Python 3.11 or newer" >&2
    exit 2
fi
if [ ! -x .venv/bin/pip ]; then
    if ! "$interpreter" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -q && apt-get install -qy --no-install-recommends python3-venv
        else
            echo "error: $interpreter has no venv; run: apt-get install python3-venv" >&2
            exit 2
        fi
    fi
    "$interpreter" -m venv .venv
fi

# pip takes seconds even if everything is installed. A note of what was asked for saves them.
wanted=$(cat setup.py pyproject.toml constraints.txt | cksum)
stamp=.venv/installed${extra:+-$extra}
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing into .venv ..."
    "$PYTHON" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".${extra:+[$extra]}"
    echo "$wanted" >"$stamp"
fi
