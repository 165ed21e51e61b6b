#!/usr/bin/env bash
# Sets up and runs every check: bash launch/test.sh [--dry-run] [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/dry_run.sh
EXTRA="test"
. launch/environment.sh

run "$PYTHON" -m ruff check .
run "$PYTHON" -m ruff format --check .
run "$PYTHON" -m pytest --numprocesses="${TEST_PROCESSES:-2}" --dist=worksteal "$@"
