#!/bin/sh
# Make .venv at the repository root exactly as requirements.lock says, with the command `tickwire` in it.
# Needs Python 3.11 or newer. Debian ships Python without ensurepip (package python3-venv); then a pip that is
# installed outside the venv fills it, and where there is none either, the message says what to install.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for name in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "Tickwire needs Python 3.11 or newer (Debian 12: apt-get install python3 python3-venv)" >&2
    exit 1
}

python=$(find_python)
echo "making .venv from requirements.lock; that takes a minute or two" >&2
rm -rf .venv
if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv .venv
    pip=".venv/bin/python -m pip"
elif "$python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --without-pip .venv
    pip="$python -m pip --python .venv/bin/python"
else
    echo "$python can make no virtual environment (Debian 12: apt-get install python3-venv)" >&2
    exit 1
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
$pip install --quiet --require-hashes -r requirements.lock
$pip install --quiet --no-deps --no-build-isolation --editable .
touch .venv/.complete
