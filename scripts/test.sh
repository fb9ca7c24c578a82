#!/usr/bin/env bash
# All checks: lint, types, layers, tests. Arguments go to pytest, e.g. `bash scripts/test.sh -m "not slow"`,
# or `-n 0 --pdb` for one process.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

make_environment
install_packages test
install_browser

say "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
say "mypy"
.venv/bin/mypy
say "import-linter"
.venv/bin/lint-imports --no-cache
say "pytest"
# two processes, each running whole files: many tests wait for processes that they start
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
