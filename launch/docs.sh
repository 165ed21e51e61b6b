#!/usr/bin/env bash
# Sets up .venv and builds the site of docs/: bash launch/docs.sh [--dry-run] [options]
# Options go to Sphinx, such as --builder=linkcheck, which checks links to other sites.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/dry_run.sh
EXTRA="docs"
. launch/environment.sh

run "$PYTHON" -m sphinx --fail-on-warning --keep-going docs build/site "$@"
