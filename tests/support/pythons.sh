#!/bin/sh
# Prints the Pythons of this machine on which echofactory runs, each with its full path: those of
# PATH, then those of pyenv. With an argument: those of another version than that Python.
set -eu
versions="3.11 3.12 3.13 3.14"
without=""
if [ $# -gt 0 ]; then
    without=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
fi
for version in $versions; do
    [ "$version" = "$without" ] && continue
    for found in "$(command -v "python$version" || true)" \
        "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        # A shim of pyenv can be there without its Python.
        if [ -x "$found" ] && "$found" -c 'import venv' 2>/dev/null; then
            echo "$found"
            break
        fi
    done
done
