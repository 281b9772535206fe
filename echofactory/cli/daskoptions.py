"""
The options of a run over several processes and machines.
"""

from dataclasses import dataclass

from twisted.python import usage

from echofactory.cli.options import CommandOptions, Option
from echofactory.cli.parsers import parseCount
from echofactory.distributed.hosts import LocalCluster, RemoteCluster
from echofactory.distributed.settings import refuseTooManyParts
from echofactory.net.cores import usableCores
from echofactory.net.tracing import Trace

DASK_NAMES = ("dask", "parts", "dask-ca", "dask-cert", "dask-key")
"""The options, in the order of the help."""


def _file(name: str, what: str, example: str) -> Option:
    return Option(
        name,
        "FILE",
        str,
        None,
        f"With --dask ADDRESS: PEM file of {what}.",
        defaultHelp="no TLS",
        example=example,
    )


DASK_OPTIONS = (
    Option(
        "dask",
        "WHERE",
        str,
        None,
        "Make the run with several processes: local:N starts N on this machine, local one per"
        " core; the address of a Dask scheduler uses its workers. Needs echofactory[dask].",
        defaultHelp="one process",
        example="local:4",
    ),
    Option(
        "parts",
        "N",
        parseCount,
        None,
        "With --dask ADDRESS: number of processes, which the workers start in turn.",
        defaultHelp="one for each worker",
        example="8",
    ),
    _file("dask-ca", "the authority of the cluster's certificates", "ca.pem"),
    _file("dask-cert", "the certificate of this program in the cluster", "cert.pem"),
    _file("dask-key", "the private key of --dask-cert", "key.pem"),
)


@dataclass(frozen=True, kw_only=True)
class DaskChoice:
    """
    Where a run is made.

    @ivar where: the cluster.
    @ivar parts: the number of parts; C{None}: one for each worker.
    """

    where: LocalCluster | RemoteCluster
    parts: int | None


def readDask(
    options: CommandOptions, connections: int, trace: Trace, target: str | None
) -> DaskChoice | None:
    """
    Return where the run is made; C{None}: in this process.

    @param connections: the number of connections.
    @param target: the endpoint string; C{None}: there is none.
    @raise usage.UsageError: naming the option that is wrong, or needs another one.
    """
    where = options["dask"]
    others = [name for name in DASK_NAMES[1:] if options[name] is not None]
    if where is None:
        if others:
            raise usage.UsageError(f"--{others[0]}: give --dask too")
        return None
    if target is None:
        raise usage.UsageError("--dask: give HOST PORT or --connect too")
    if trace > Trace.NONE:
        raise usage.UsageError("--trace: with --dask, connections cannot be traced")
    kind, colon, rest = where.partition(":")
    if kind == "local":
        if others:
            raise usage.UsageError(f"--{others[0]}: --dask local needs none")
        parts = _partsOf(rest) if colon else min(connections, usableCores())
        _refuseTooMany(f"--dask: {where}", parts, connections)
        return DaskChoice(where=LocalCluster(), parts=parts)
    if "://" not in where and not rest.rpartition(":")[2].isdigit():
        raise usage.UsageError(
            f"--dask: {where!r}: give local, local:N or the address of a scheduler, such as"
            " tls://10.0.0.1:8786"
        )
    wanted = options.value("parts")
    if wanted is not None:
        _refuseTooMany("--parts", wanted, connections)
    cluster = RemoteCluster(address=where, **_files(options, where))
    return DaskChoice(where=cluster, parts=wanted)


def _refuseTooMany(name: str, parts: int, connections: int) -> None:
    try:
        refuseTooManyParts(parts, connections)
    except ValueError as error:
        raise usage.UsageError(f"{name}: {str(error).partition(': ')[2]}") from None


def _partsOf(text: str) -> int:
    try:
        return parseCount(text)
    except ValueError as error:
        raise usage.UsageError(f"--dask: local:{text}: {error}") from None


def _files(options: CommandOptions, where: str) -> dict[str, str]:
    names = ("ca", "cert", "key")
    files = {name: options[f"dask-{name}"] for name in names}
    given = [name for name in names if files[name] is not None]
    if not given:
        if where.startswith("tls://"):
            raise usage.UsageError("--dask: tls:// needs --dask-ca, --dask-cert and --dask-key")
        return {}
    if not where.startswith("tls://"):
        raise usage.UsageError(f"--dask-{given[0]}: --dask is not a tls:// address")
    for name in names:
        if files[name] is None:
            raise usage.UsageError(f"--dask-{given[0]}: give --dask-{name} too")
    return files
