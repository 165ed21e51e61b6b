#!/usr/bin/env bash
# Sets up .venv and builds the site of docs/: bash launch/docs.sh [--dry-run] [sphinx-build options]
# Options such as --builder=linkcheck go to Sphinx, as does another folder than build/site.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/dry_run.sh
EXTRA="docs"
. launch/environment.sh

run "$PYTHON" -m sphinx --fail-on-warning --keep-going docs build/site "$@"
