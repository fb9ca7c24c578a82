#!/usr/bin/env bash
# All checks: lint, types, layers, tests. Arguments go to pytest, e.g. `bash scripts/test.sh -m "not slow"`,
# a single file, or `-n 0 --pdb` for one process.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

make_environment
install_packages test
install_browser

say "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .

say "mypy and import-linter, beside the tests: told of if they find something"
found=$(mktemp)
{ .venv/bin/mypy && .venv/bin/lint-imports --no-cache; } >"$found" 2>&1 &
checks=$!
trap 'kill "$checks" 2>/dev/null || true; rm -f "$found"' EXIT

say "pytest, two processes"
# many tests wait for processes that they start; who has done its half takes from the other's
failed=0
unset PYTHONDONTWRITEBYTECODE  # without compiled files every process that tests start compiles the package anew
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist worksteal "$@" || failed=$?
if ! wait "$checks"; then
    say "mypy or import-linter"
    cat "$found"
    failed=1
fi
exit "$failed"
