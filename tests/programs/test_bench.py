"""
The bench: that it runs to its end. What it finds is no test.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import LIMIT, untraced

from bench.__main__ import main
from bench.commands import OURS
from bench.measures import PARTS
from bench.show import goals, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"


PEERS = {
    "server": 9,
    "server over TLS": 6,
    "workers": 2,
    "client": 9,
    "the client's own error": 3,
    "client over TLS": 4,
    "twistd web": 2,
    "programs": 2,
}
"""How many peers the measures of each part have."""


def has(*needed: str) -> bool:
    """Tell whether there are these programs, a second core, and OpenSSL's headers."""
    if not all(map(shutil.which, needed)) or len(os.sched_getaffinity(0)) < 2:
        return False
    looking = ["gcc", "-E", "-include", "openssl/ssl.h", "-x", "c", os.devnull]
    return not subprocess.run(looking, capture_output=True, check=False).returncode


def bench(into: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a quick bench, and leave the page as it is."""
    before = PAGE.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--into", str(into), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=4 * LIMIT, check=False,
        env=untraced(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PAGE.read_bytes() == before
    return done


def measured(into: Path) -> dict[str, Any]:
    """Return what a bench wrote."""
    written: dict[str, Any] = json.loads((into / "results.json").read_text())
    return written


benches = pytest.mark.skipif(
    "CI" not in os.environ and not has("gcc", "taskset"),
    reason="no gcc or libssl-dev, or no second core",
)


@benches
@pytest.mark.soak
def test_a_quick_bench(tmp_path: Path) -> None:
    """Every peer is measured, its figures are written, and the page stays as it is."""
    done = bench(tmp_path)
    written = measured(tmp_path)
    measures = written["measures"]
    assert list(measures) == [measure.key for part in PARTS for measure in part.measures]
    for key, measure in measures.items():
        peers = measure["peers"]
        others = {"record": 1, "lanes_rate": 3, "lanes_cpu": 3, "receive_lag_client": 2}
        assert len(peers) == others.get(key, PEERS[measure["part"]]), key
        assert next(iter(peers.values()))["ours_over_its"]["median"] == 1.0
        for figures in peers.values():
            assert figures["min"] <= figures["median"] <= figures["max"]
            # The difference of two short runs can be negative.
            if "client" not in key:
                assert figures["min"] > 0
    openssl = written["machine"]["openssl"]
    assert set(openssl) == {"pyopenssl", "python", "c"}
    assert openssl["python"] == ssl.OPENSSL_VERSION
    for version in openssl.values():
        assert f" {version.split()[1]} in " in done.stdout
    assert "its figures mean little" in done.stdout
    assert (tmp_path / "results.svg").read_text().count("uvloop Protocol") == 4


@benches
@pytest.mark.seconds
def test_a_bench_of_some_rows(tmp_path: Path) -> None:
    """Nothing else is measured, and there is no picture of what was not."""
    done = bench(tmp_path, "--rows", "programs,web")
    parts = {measure["part"] for measure in measured(tmp_path)["measures"].values()}
    assert parts == {"twistd web", "programs"}
    assert "CPU per WebSocket message" in done.stdout
    assert "server:" not in done.stdout
    assert not (tmp_path / "results.svg").exists()


def test_goals_of_what_was_measured() -> None:
    """The others are left out."""
    values = {"tls_cpu_100x64": {OURS: [22.0, 24.0], "uvloop Protocol": [20.0, 20.0]}}
    said = goals(values)
    assert said.split("\n")[1:] == [
        "  CPU per message over TLS, 100 × 64 B / uvloop Protocol  1.15  goal ≤ 1.12  missed",
        "",
    ]
    assert goals({}) == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "argument --rounds: 0 is not 1 or more"),
        (
            ["--rows", "tls,ssl"],
            "argument --rows: 'ssl' is not one of server, tls, workers, client,"
            " instrument, tls-client, web, programs",
        ),
        (["--into", "/dev/null/x"], "argument --into: /dev/null/x: Not a directory"),
    ],
)
def test_a_bench_that_cannot_be(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    """It is refused before anything is measured."""
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


def test_large_ratios_do_not_touch_their_quartiles() -> None:
    """They have three digits if a peer does nothing of a kind."""
    measure = PARTS[0].measures[0]
    told = table({measure.key: {"ours": [18609.0, 18700.0], "other": [100.0, 100.0]}}, {})
    line = next(each for each in told.splitlines() if each.startswith("  other"))
    assert line.split()[-4:] == ["187", "186", "-", "187"]


def test_the_page_has_the_last_benchs_table() -> None:
    """It is the one made of bench/results.json, to the letter."""
    written = json.loads((ROOT / "bench" / "results.json").read_text())
    values, loads = (
        {
            key: {peer: figures[what] for peer, figures in measure["peers"].items()}
            for key, measure in written["measures"].items()
        }
        for what in ("turns", "load_busy")
    )
    page = PAGE.read_text()
    assert f"\n\n{table(values, loads)}\n{goals(values)}```\n<!-- until here -->" in page
