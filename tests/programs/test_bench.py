"""
The bench: that it runs to its end. What it finds is no test.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import LIMIT, untraced

from bench.__main__ import main
from bench.show import goals, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"


def has(*needed: str) -> bool:
    """Tell whether there are these programs, a second core, and OpenSSL's headers."""
    if not all(map(shutil.which, needed)) or len(os.sched_getaffinity(0)) < 2:
        return False
    looking = ["gcc", "-E", "-include", "openssl/ssl.h", "-x", "c", os.devnull]
    return not subprocess.run(looking, capture_output=True, check=False).returncode


@pytest.mark.skipif(
    "CI" not in os.environ and not has("gcc", "openssl", "taskset"),
    reason="no gcc, openssl or libssl-dev, or no second core",
)
@pytest.mark.seconds
def test_a_quick_bench(tmp_path: Path) -> None:
    """Every peer is measured, its figures are written, and the page stays as it is."""
    before = PAGE.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--into", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=4 * LIMIT, check=False,
        env=untraced(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "results.json").read_text())
    measures = written["measures"]
    assert len(measures) == 17
    for key, measure in measures.items():
        peers = measure["peers"]
        assert len(peers) == {
            "record": 1,
            "web_rate": 2,
            "web_cpu": 2,
            "workers_rate": 2,
            "workers_cpu": 2,
            "tls_workers_rate": 2,
            "tls_workers_cpu": 2,
        }.get(key, 9), key
        assert next(iter(peers.values()))["ours_over_its"]["median"] == 1.0
        for figures in peers.values():
            assert figures["min"] <= figures["median"] <= figures["max"]
            if key not in ("client_100x64", "record"):
                assert figures["min"] > 0
    assert "its figures mean little" in done.stdout
    assert (tmp_path / "results.svg").read_text().count("uvloop Protocol") == 4
    assert PAGE.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "argument --rounds: 0 is not 1 or more"),
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
