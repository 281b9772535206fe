"""
The options of a run of several parts: what is accepted, and one line for each mistake.
"""

from pathlib import Path

import pytest

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.daskoptions import DaskChoice
from echofactory.cli.daskrun import DaskRuns
from echofactory.distributed.hosts import LocalCluster, RemoteCluster

TARGET = ("127.0.0.1", "7")
TLS = "tls://10.0.0.1:8786"


def parsed(*words: str) -> DaskChoice | None:
    options = ClientOptions()
    options.parseOptions([*words])
    return options.dask


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The options of three files."""
    words = []
    for name in ("ca", "cert", "key"):
        path = tmp_path / f"{name}.pem"
        path.write_text("")
        words += [f"--dask-{name}", str(path)]
    return words


def test_one_process_by_default() -> None:
    assert parsed(*TARGET) is None


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part for each core, if there are connections for so many."""
    monkeypatch.setattr("echofactory.cli.daskoptions.usableCores", lambda: 4)
    assert parsed(*TARGET, "10", "--dask", "local") == DaskChoice(where=LocalCluster(), parts=4)
    assert parsed(*TARGET, "3", "--dask", "local") == DaskChoice(where=LocalCluster(), parts=3)
    assert parsed(*TARGET, "10", "--dask", "local:10") == DaskChoice(
        where=LocalCluster(), parts=10
    )


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "10.0.0.1:8786"])
def test_a_cluster(address: str) -> None:
    chosen = parsed(*TARGET, "9", "--dask", address, "--parts", "8")
    assert chosen == DaskChoice(where=RemoteCluster(address=address), parts=8)
    assert parsed(*TARGET, "9", "--dask", address) == DaskChoice(
        where=RemoteCluster(address=address), parts=None
    )


def test_a_cluster_with_TLS(files: list[str]) -> None:
    ca, cert, key = files[1::2]
    chosen = parsed(*TARGET, "--dask", TLS, *files)
    assert chosen == DaskChoice(
        where=RemoteCluster(address=TLS, ca=ca, cert=cert, key=key), parts=None
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parts", "2"], "--parts: give --dask too"),
        (["--dask-ca", "a.pem"], "--dask-ca: give --dask too"),
        (["--dask", "local:0"], "--dask: local:0: "),
        (["--dask", "local:"], "--dask: local:: "),
        (["--dask", "local:-1"], "--dask: local:-1: "),
        (["--dask", "local:x"], "--dask: local:x: "),
        (["--dask", "local:3"], "--dask: local:3: 3 processes for 2 connections; give"),
        (["20000", "--dask", "local:10001"], "--dask: local:10001: 10,001 processes; give"),
        (["--dask", "local", "--parts", "2"], "--parts: --dask local needs none"),
        (["--dask", "local", "--dask-key", "k"], "--dask-key: --dask local needs none"),
        (["--dask", "10.0.0.1:8786", "--parts", "3"], "--parts: 3 processes for 2 connect"),
        (["--dask", "10.0.0.1:8786", "--parts", "0"], "--parts: "),
        (["--dask", "somewhere"], "--dask: 'somewhere': give local, local:N or the address"),
        (["--dask", ""], "--dask: ''"),
        (["--dask", TLS], "--dask: tls:// needs --dask-ca, --dask-cert and --dask-key"),
        (["--dask", "tcp://10.0.0.1:8786", "--dask-ca", "a"], "--dask-ca: --dask is not a tls"),
        (["--dask", TLS, "--dask-cert", "a"], "--dask-cert: give --dask-ca too"),
        (["--dask", "local", "--trace", "data"], "--trace: with --dask, connections cannot"),
        (["--dask", "local", "--trace", "connections"], "--trace: with --dask, connections"),
    ],
)  # fmt: skip
def test_a_mistake(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    """One line, and status 2."""
    with pytest.raises(SystemExit) as refused:
        parsed(*TARGET, *words)
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"echofactory.client: {said}")


def test_a_target_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """The server of a tutorial run is in one process."""
    with pytest.raises(SystemExit) as refused:
        parsed("--dask", "local")
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("echofactory.client: nothing to connect to: give HOST PORT")


@pytest.mark.parametrize("missing", ["ca", "cert", "key"])
def test_a_file_that_is_not_there(
    capsys: pytest.CaptureFixture[str], files: list[str], missing: str
) -> None:
    """It is read when the run begins."""
    path = Path(files[files.index(f"--dask-{missing}") + 1])
    path.unlink()
    options = ClientOptions()
    options.parseOptions([*TARGET, "--dask", TLS, *files])
    with pytest.raises(SystemExit) as refused:
        DaskRuns(None, options)
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"echofactory.client: --dask-{missing}: ")
    assert "No such file" in line
