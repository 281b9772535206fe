#!/bin/sh
# Builds the sdist and the wheel, checks their metadata, and installs each: with pip in a clean
# environment, and the wheel with pipx and uv too. From each, the command echofactory does the
# main job in a directory outside the checkout.
set -eu

checkout=$(cd "$(dirname "$0")/../.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python=$(command -v "${PYTHON:-python3}")
job="$checkout/tests/support/main_job.sh"
# What the user's own configuration says shall make no difference.
export PIPX_HOME="$place/pipx" PIPX_BIN_DIR="$place/bin" PIPX_MAN_DIR="$place/man"
export UV_TOOL_DIR="$place/uv" UV_CACHE_DIR="$place/cache" UV_PYTHON="$python"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1

step() { printf '\n== %s\n' "$*"; }

step "build, twine check"
"$python" -m venv "$place/tools"
"$place/tools/bin/pip" install build twine pipx uv
cd "$place"
"$place/tools/bin/python" -m build --outdir "$place/dist" "$checkout" >build.log 2>&1 || {
    cat build.log
    exit 1
}
"$place/tools/bin/twine" check --strict dist/*

for file in dist/*; do
    step "pip install $(basename "$file")"
    "$python" -m venv --clear "$place/venv"
    "$place/venv/bin/pip" install "$file"
    sh "$job" "$place/venv/bin/echofactory"
    sh "$job" "$place/venv/bin/python" -m echofactory
    (cd "$checkout/share" && find . -type f) | while read -r name; do
        cmp "$checkout/share/$name" "$place/venv/share/$name"
    done
done

wheel=$(echo "$place"/dist/*.whl)
step "pipx install $(basename "$wheel")"
"$place/tools/bin/pipx" install --quiet --python "$python" "$wheel"
sh "$job" "$place/bin/echofactory"
test -e "$place/man/man1/echofactory.1"

step "uv tool run --from $(basename "$wheel")"
sh "$job" "$place/tools/bin/uv" tool run --quiet --from "$wheel" echofactory

step "the fixture, in a pytest of its own"
"$place/venv/bin/pip" install pytest
printf '%s\n' "import socket" "def test_it(echoServer):" \
    "    with socket.create_connection(echoServer(), 60) as connection:" \
    "        connection.sendall(b'hello')" \
    "        assert connection.recv(5) == b'hello'" >test_it.py
"$place/venv/bin/python" -m pytest -q test_it.py

step "four people who know nothing of it"
sh "$checkout/tests/support/walks.sh" "$place/venv" "$checkout"
