#!/usr/bin/env bash
# Sets up and runs every check: bash launch/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRA="test"
. launch/environment.sh

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m pytest --numprocesses="${TEST_PROCESSES:-2}" --dist=worksteal "$@"
