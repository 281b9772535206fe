"""
C{python -m bench}: what an echo costs here, beside what it costs others.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from OpenSSL import SSL

from bench.commands import ORDER
from bench.measures import PARTS
from bench.processes import LOAD_CORE, SERVER_CORE
from bench.show import Values, draw, drawable, goals, ratio, table
from bench.suite import Extent, Figure, Suite
from echofactory.net.descriptors import raiseDescriptorLimit

_HERE = Path(__file__).parent
_PAGE = _HERE.parent / "docs" / "benchmarks.md"
_ROWS = [part.key for part in PARTS]

_FULL = Extent(turns=3, seconds=0.25, idle=5000, count=500)
_QUICK = Extent(turns=1, seconds=0.02, idle=1000, count=20)


def _machine(openssl: str) -> dict[str, object]:
    """
    Describe what it ran on, and with.

    @param openssl: the version of the programs in C.
    """
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    compiler = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "twisted": version("twisted"),
        "uvloop": version("uvloop"),
        "autobahn": version("autobahn"),
        "klein": version("klein"),
        "openssl": {
            "pyopenssl": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode(),
            "python": ssl.OPENSSL_VERSION,
            "c": openssl,
        },
        "gcc": compiler.stdout.split("\n", 1)[0],
        "server_core": SERVER_CORE,
        "load_core": LOAD_CORE,
    }


def _asJSON(
    values: Values, loads: Values, machine: dict[str, object], rounds: int, extent: Extent
) -> str:
    written = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "rounds": rounds,
        "turns": extent.turns,
        "seconds": extent.seconds,
        "idle_connections": extent.idle,
        "client_messages": extent.count * 100,
        "measures": {
            measure.key: {
                "part": part.title,
                "title": measure.title,
                "unit": measure.unit,
                "more_is_better": measure.more,
                "peers": {
                    peer: {
                        "median": median(figures),
                        "min": min(figures),
                        "max": max(figures),
                        "ours_over_its": ratio(values[measure.key], peer)._asdict(),
                        "turns": figures,
                        "load_busy": loads.get(measure.key, {}).get(peer),
                    }
                    for peer, figures in values[measure.key].items()
                },
            }
            for part in PARTS
            for measure in part.measures
            if measure.key in values
        },
    }
    return json.dumps(written, indent=1) + "\n"


def _intoPage(text: str) -> None:
    page = _PAGE.read_text()
    begin, end = "<!-- made by make bench -->\n", "<!-- until here -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    _PAGE.write_text(f"{before}{begin}```\n{text}```\n{end}{after}")


def _rows(text: str) -> list[str]:
    """Return the parts that an argument names, in the order of the table."""
    named = text.split(",")
    for name in named:
        if name not in _ROWS:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(_ROWS)}")
    return [key for key in _ROWS if key in named]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure echo servers and clients beside each other, round by round, the"
        " server on one core and the load on another. The table goes into docs/benchmarks.md,"
        " the figures and a picture go into bench/. It needs gcc, the headers of OpenSSL"
        " (libssl-dev), and what the extra bench installs.",
    )
    parser.add_argument(
        "--rounds", type=int, help="rounds through all of them (default 7, or 1 with --quick)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only see that it works: 20 ms for each figure, into build/bench",
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        default=_ROWS,
        help="only these parts of the table, into build/bench. Separate them with commas:"
        f" {', '.join(_ROWS)}",
    )
    parser.add_argument(
        "--into",
        type=Path,
        help="directory for results.json and results.svg, instead of bench/ and docs/",
    )
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 7
    if arguments.rounds < 1:
        parser.error(f"argument --rounds: {arguments.rounds} is not 1 or more")
    # What is published is whole.
    if (arguments.quick or arguments.rows != _ROWS) and arguments.into is None:
        arguments.into = _HERE.parent / "build" / "bench"
    for needed in ("matplotlib", "uvloop", "autobahn", "klein", "trustme"):
        if find_spec(needed) is None:
            parser.error(f"{needed} is missing: install echofactory[bench]")
    for program in ("gcc", "taskset"):
        if shutil.which(program) is None:
            parser.error(f"{program} is missing")
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two cores are needed, one for the server and one for the load")
    try:
        (arguments.into or _HERE).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --into: {arguments.into}: {error.strerror}")
    return arguments


def _measure(suite: Suite, rounds: int, rows: list[str]) -> tuple[Values, Values]:
    """Return the figures, and how busy the load was meanwhile."""
    values: Values = {}
    loads: Values = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for figure in suite.round(number, rows):
            _add(values, figure, figure.value)
            if figure.loadBusy is not None:
                _add(loads, figure, figure.loadBusy)
    ordered = {
        key: {peer: peers[peer] for peer in ORDER if peer in peers}
        for key, peers in values.items()
    }
    return ordered, loads


def _add(values: Values, figure: Figure, value: float) -> None:
    values.setdefault(figure.measure, {}).setdefault(figure.peer, []).append(value)


def _described(machine: dict[str, Any], rounds: int, extent: Extent) -> str:
    openssl = {whose: text.split()[1] for whose, text in machine["openssl"].items()}
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']};"
        f" Python {machine['python']}, Twisted {machine['twisted']},"
        f" uvloop {machine['uvloop']}, {machine['gcc']};\n"
        f"OpenSSL {openssl['pyopenssl']} in Twisted and echofactory (pyOpenSSL's),"
        f" {openssl['python']} in asyncio and uvloop (Python's), {openssl['c']} in C;"
        f" autobahn {machine['autobahn']}, klein {machine['klein']};\n"
        f"server on core {SERVER_CORE}, load in C (bench/load.c) on core {LOAD_CORE};"
        f" medians of {rounds * extent.turns} interleaved turns of {extent.seconds:g} s,"
        f" of clients and memory {rounds};"
        " ratios turn by turn\n\n"
    )


def main() -> None:
    """Do what the command line says."""
    arguments = _arguments()
    rounds, extent = arguments.rounds, _QUICK if arguments.quick else _FULL
    raiseDescriptorLimit()
    # The servers are ended, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory() as directory:
            suite = Suite(extent, Path(directory))
            machine = _machine(suite.openssl)
            values, loads = _measure(suite, rounds, arguments.rows)
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
    described = _described(machine, rounds, extent)
    text = described + table(values, loads)
    if arguments.quick:
        text += "\nA quick run: it works, and its figures mean little.\n"
    else:
        text += f"\n{goals(values)}"
    print(text, end="")
    into = arguments.into or _HERE
    (into / "results.json").write_text(_asJSON(values, loads, machine, rounds, extent))
    written = [into / "results.json"]
    if drawable(values):
        written.append(into / "results.svg")
        draw(values, written[-1])
    print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    if arguments.into is None:
        _intoPage(text)


if __name__ == "__main__":
    main()
