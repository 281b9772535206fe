#!/bin/sh
# Builds the wheel, installs it alone in a clean environment, and has it do the
# main job from a directory outside the checkout.
set -eu

checkout=$(cd "$(dirname "$0")/../.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"${PYTHON:-python3}" -m venv "$place/venv"
pip="$place/venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip wheel --no-deps --wheel-dir "$place/dist" "$checkout"
$pip install "$place"/dist/echofactory-*.whl

cp "$checkout/examples/demo.sh" "$place/demo.sh"
cd "$place"
venv/bin/twistd --help | grep "multiecho"
venv/bin/python -c "
import echofactory, sys
assert echofactory.__file__.startswith(sys.prefix), echofactory.__file__
from importlib.resources import files
page = ('status/index.html', 'status/status.css', 'status/status.js', 'status/charts.js',
    'status/icon.svg')
charts = ('page.css', 'page.js', 'uplot/LICENSE', 'uplot/uPlot.iife.min.js', 'uplot/uPlot.min.css')
report = [f'report/{name}' for name in charts]
for name in ('py.typed', 'results.schema.json', *page, *report):
    assert files('echofactory').joinpath(name).is_file(), name
"
PATH="$place/venv/bin:$PATH" sh demo.sh 0
sh "$checkout/tests/support/main_job.sh" "$place/venv/bin/echofactory"
for name in man/man1/echofactory.1 bash-completion/completions/echofactory \
    zsh/site-functions/_echofactory fish/vendor_completions.d/echofactory.fish; do
    test -f "venv/share/$name"
done

# Somebody who checks types, with mypy alone and with mypy-zope.
cp "$checkout"/tests/support/typed_*.py "$place"
$pip install mypy mypy-zope
for plugins in "" mypy_zope:plugin; do
    printf '[mypy]\nstrict = true\nuntyped_calls_exclude = twisted\nplugins = %s\n' "$plugins" >mypy.ini
    venv/bin/mypy typed_*.py
done
