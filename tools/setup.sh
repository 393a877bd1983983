#!/bin/sh
# Bring .venv to what requirements.lock says. Where it is so already, this costs a few milliseconds.
#
# PYTHON   the interpreter to build it with; without it the first of 3.11 to 3.13 on PATH.
set -eu
cd "$(dirname "$0")/.."
venv=.venv

say() { printf '%s\n' "setup: $*" >&2; }
fail() { say "$@"; exit 1; }

# The full path of an interpreter that will do (uv cannot follow the shims of version managers).
locate() {
    "$1" -c '
import sys
assert (3, 11) <= sys.version_info[:2] <= (3, 13)
import ensurepip, venv
print(sys._base_executable)' 2>/dev/null
}

choose() {
    if [ -n "${PYTHON:-}" ]; then
        locate "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 with its venv module."
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python; do
        locate "$name" && return
    done
    fail "no Python 3.11, 3.12 or 3.13 with its venv module on PATH: install one" \
        "(Debian, Ubuntu: apt-get install python3-venv) or name it: make PYTHON=/path/to/python3.12"
}

# The checkout's own path is part of the mark: a moved .venv still points at the old place.
mark=$(cat requirements.lock pyproject.toml tools/setup.sh | cksum)" $(pwd)"
if [ "$(cat $venv/.mark 2>/dev/null)" = "$mark" ] && $venv/bin/python -c '' 2>/dev/null; then
    [ -n "${PYTHON:-}" ] || exit 0
    base=$(choose)
    [ "$(cat $venv/.base)" != "$base" ] || exit 0
else
    base=$(choose)
fi

rm -f $venv/.mark
if [ "$(cat $venv/.base 2>/dev/null)" != "$base" ] || ! $venv/bin/python -m pip --version >/dev/null 2>&1
then
    rm -rf $venv
    "$base" -m venv $venv || fail "$base could not make a virtual environment in $venv."
    printf '%s\n' "$base" >$venv/.base
fi
python=$venv/bin/python
say "installing the packages of requirements.lock into $venv ($($python -V); once, a minute or so)"

# uv is in the lock as well: pip installs that one entry, and uv the rest. Where uv has no wheel, or
# does not see the index that pip is configured for, pip does it all, only slower.
awk '/^[^ ]/ { keep = /^uv==/ } keep' requirements.lock >$venv/uv.txt
if $python -m pip install -q --disable-pip-version-check --require-hashes -r $venv/uv.txt &&
    UV_PYTHON_DOWNLOADS=never $venv/bin/uv pip install --python $python --require-hashes \
        --compile-bytecode -r requirements.lock
then :
else
    say "uv could not; trying pip"
    $python -m pip install --progress-bar off --disable-pip-version-check --require-hashes -r requirements.lock ||
        fail "the packages could not be installed; the lines above say why."
fi
$python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ||
    fail "the project itself could not be installed; the lines above say why."

# Otherwise the first figure would wait for it, and say so on stderr.
$python -c 'import matplotlib.font_manager'
printf '%s\n' "$mark" >$venv/.mark
