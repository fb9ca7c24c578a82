# Sourced by quickstart.sh and test.sh: creates the environment .venv in the clone, with exactly pinned versions.
#
# Needs Python 3.10 or newer with its venv module; PYTHON=/path/to/python selects one. Later runs only check it.

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10 python}; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.10 or newer is needed, but ${PYTHON:-python3} is not. Install it, or give PYTHON=/path/to/python."
}

make_environment() {
    local python
    if [ -x .venv/bin/python ]; then
        is_new_enough .venv/bin/python || fail ".venv holds a Python older than 3.10. Delete .venv and start again."
        return
    fi
    python=$(find_python)
    say "Creating the environment .venv with $("$python" --version)"
    "$python" -m venv .venv || {
        rm -rf .venv
        fail "$python cannot create environments. On Debian and Ubuntu: apt-get install python3-venv"
    }
}

# install_browser: installs Chromium for the tests of pages on Debian and Ubuntu; without it they are skipped
install_browser() {
    if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "Without chromium and chromedriver the tests of pages in a browser are skipped"
        return
    fi
    say "Installing Chromium for the tests of pages"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        chromium chromium-driver fonts-dejavu-core; } >/dev/null || say "Chromium could not be installed"
}

# install_packages EXTRA: the package itself, editable, and its optional dependencies EXTRA
install_packages() {
    local extra=$1 wanted
    wanted="$(cat pyproject.toml scripts/constraints.txt | cksum) $extra $PWD"
    if [ "$(cat ".venv/installed-$extra" 2>/dev/null)" = "$wanted" ]; then
        say "The environment .venv has all it needs ($extra)"
        return
    fi
    say "Installing into .venv ($extra): a few minutes the first time"
    # torch on its own first: with other packages, pip would choose the newest build
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt torch
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e ".[$extra]"
    echo "$wanted" >".venv/installed-$extra"
}
