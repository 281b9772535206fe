#!/bin/sh
# Builds the wheel, installs it in a clean environment beside programs that know nothing of
# it, and runs them on its reactor. Arguments go to pytest.
set -eu

checkout=$(cd "$(dirname "$0")/../.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"${PYTHON:-python3}" -m venv "$place/venv"
pip="$place/venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip wheel --no-deps --wheel-dir "$place/dist" "$checkout"
$pip install "$place"/dist/echofactory-*.whl -r "$checkout/tests/whole_programs/requirements.txt"

# Copies, so that nothing is imported from the checkout.
cp -R "$checkout/tests/whole_programs" "$checkout/tests/support/programs.py" \
    "$checkout/tests/support/transports.py" "$checkout/tests/support/witness" "$place"
cd "$place"
PYTHONPATH="$place" venv/bin/python -m pytest -v --timeout 300 "$@" whole_programs/check.py
