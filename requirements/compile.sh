#!/usr/bin/env bash
# Writes the lock files again from pyproject.toml: every Python from 3.11 on, hashes, no index named.
# Needs the environment of `make env` (uv is in it).   UPGRADE=--upgrade moves every version.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
lock() { # output, then what to lock
    local out=requirements/$1; shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links ${UPGRADE:-} "$@" -o "$out"
}
lock dev.txt pyproject.toml --all-extras --group dev
lock runtime.txt pyproject.toml --extra postgresql --extra pkcs11 -c requirements/dev.txt
lock pgserver.txt --group pgserver
lock mutate.txt --group mutate -c requirements/dev.txt
lock helm.txt --group helm --no-deps
lock chart.txt --group chart
lock bootstrap.txt --group bootstrap -c requirements/dev.txt
