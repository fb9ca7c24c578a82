#!/usr/bin/env bash
# Run the fast tests with the oldest supported transformers, then with the pinned one, both with the pinned torch.
#
#     bash scripts/test_versions.sh                  arguments go to pytest
#     TORCH=2.11.0 bash scripts/test_versions.sh     the oldest with another torch, if pip can find it
#
# The oldest lives in .venv-oldest (.venv-oldest-torch-2.11.0), the pinned in .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

# transformers 5.17 needs huggingface_hub below 2.0; everything else keeps its pins
OLDEST=(transformers==5.17.0 huggingface-hub==1.33.0)

make_oldest_environment() {
    local folder=$1 torch=$2 constraints wanted
    wanted="$(cat pyproject.toml scripts/constraints.txt scripts/test_versions.sh | cksum) $torch $PWD"
    if [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ]; then
        say "The environment $folder has all it needs"
        return
    fi
    say "Creating the environment $folder: ${OLDEST[*]} torch==$torch"
    [ -x "$folder/bin/python" ] || "$(find_python)" -m venv "$folder"
    constraints=$folder/constraints.txt
    grep -v -E '^(torch|transformers|huggingface-hub)==' scripts/constraints.txt >"$constraints"
    printf '%s\n' "torch==$torch" "${OLDEST[@]}" >>"$constraints"
    # torch on its own first: with other packages, pip would choose the newest build
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" torch
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" -e ".[test]"
    echo "$wanted" >"$folder/installed"
}

run_fast_tests() {
    local folder=$1
    shift
    say "pytest with $("$folder/bin/python" -c 'import torch, transformers
print(f"transformers {transformers.__version__}, torch {torch.__version__}")')"
    OMP_NUM_THREADS=1 "$folder/bin/python" -m pytest -p no:cacheprovider -n 2 --dist worksteal -m "not slow" "$@" ||
        failed=1
}

failed=0
folder=.venv-oldest${TORCH:+-torch-$TORCH}
make_oldest_environment "$folder" "${TORCH:-$(sed -n 's/^torch==//p' scripts/constraints.txt)}"
run_fast_tests "$folder" "$@"
if [ -z "${TORCH:-}" ]; then
    make_environment
    install_packages test
    run_fast_tests .venv "$@"
fi
exit "$failed"
