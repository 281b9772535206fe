"""
The program C{python -m echofactory.client}: its streams, signals, outputs and exit status.
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.clientstatus import ClientStatus
from echofactory.cli.interrupts import Interrupts, cancelLimit
from echofactory.cli.naming import asStarted
from echofactory.cli.outputs import writeOutput
from echofactory.cli.runoutputs import RunOutputs
from echofactory.cli.streams import prepareStreams, printError, printLine
from echofactory.client.factory import EchoClientFactory
from echofactory.client.findrate import NAMES
from echofactory.client.run import MeasuredRun
from echofactory.client.search import Search
from echofactory.client.target import Target
from echofactory.net.descriptors import connectionsThatFit, raiseDescriptorLimit
from echofactory.net.endpoints import EndpointError
from echofactory.net.garbage import Exemption, searchRarely
from echofactory.net.monotonic import useMonotonicTime
from echofactory.net.tracing import Trace, rejectedCertificateText
from echofactory.report.layout import hasColour, widthOf
from echofactory.report.live import progress
from echofactory.report.text import (
    PERCENTS,
    failureLines,
    report,
    searchText,
    stepText,
    unmetLines,
)
from echofactory.results.books import Results
from echofactory.results.judging import judge
from echofactory.results.search import SearchStep
from echofactory.server.factory import EchoFactory
from echofactory.server.service import EchoService
from echofactory.values.printable import printable
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

if TYPE_CHECKING:
    from echofactory.cli.daskrun import DaskRuns

_EXIT_STATUSES = {"ok": 0, "failed": 1, "unmet": 3}
"""The exit status for each verdict of a run that was not interrupted."""
_SIGNAL_STATUS = 128
"""Plus the number of the signal, this is the exit status of an interrupted run, as in a
shell."""
_INTRODUCTION = "No address given: this process is client and server. --help shows the options."


class IClientReactor(IReactorCore, IReactorFromThreads, IReactorTime):
    """The capabilities of the reactor that the program needs."""


@implementer(ILogObserver)
class _LogObserver:
    """
    Prints log events of echofactory: traces on C{out}, warnings and errors on stderr. Of
    other packages, it prints failures only.
    """

    def __init__(self, out: IO[str], program: str) -> None:
        self._out = out
        self._program = program
        self._certificates: set[str] = set()

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        certificate = rejectedCertificateText(event)
        if certificate is not None:
            self._certificateRejected(certificate)
        elif "log_failure" in event:
            printError(eventAsText(event))
        elif str(event.get("log_namespace")).startswith("echofactory."):
            if level <= LogLevel.info:
                printLine(formatEvent(event) or "", self._out)
            else:
                printError(formatEvent(event))

    def _certificateRejected(self, text: str) -> None:
        """Print each text once."""
        if text and text not in self._certificates:
            self._certificates.add(text)
            printError(f"{self._program}: {text}")


async def _job(
    reactor: IClientReactor, target: Target | None, run: MeasuredRun | Search
) -> Results:
    """Run against the target; if there is none, against a server in this process."""
    if target is not None:
        return await run.run(target)
    server = EchoService(reactor, ["tcp:0:interface=127.0.0.1"], EchoFactory(trace=Trace.DATA))
    server.startService()
    (address,) = server.addresses
    assert isinstance(address, IPv4Address)
    try:
        return await run.run(f"tcp:127.0.0.1:{address.port}")
    finally:
        await server.stopService()


def _inThisProcess(
    reactor: IClientReactor, options: ClientOptions, workload: Workload
) -> EchoClientFactory:
    """Return a run that this process makes alone."""
    return EchoClientFactory(
        reactor,
        workload,
        options.connections,
        options.patience,
        options.trace if options.target is not None else Trace.DATA,
        opening=options.opening,
        interval=options.interval,
        spin=bool(options["spin"]),
    )


def _search(
    options: ClientOptions, outputs: RunOutputs, made: Callable[[Workload], MeasuredRun]
) -> Search:
    """Return the search for the highest rate that keeps the goals."""
    workload = options.workload

    def make(rate: float) -> MeasuredRun:
        return made(replace(workload, rate=Rate(rate, rate)))

    assert options.goals is not None
    named = {goal.quantity: NAMES[goal.quantity] for goal in options.goals}

    def show(step: SearchStep) -> None:
        outputs.step(step)
        if not options["quiet"]:
            printLine(stepText(step, named), outputs.text)

    assert workload.rate is not None
    return Search(options.goals, make, show, workload.rate.first)


def _daskRuns(reactor: IClientReactor, options: ClientOptions) -> "DaskRuns | None":
    """Return what makes runs of several processes; C{None}: this process makes them alone."""
    if options.dask is None:
        return None
    # The import takes time, so only a program that needs it does it.
    from echofactory.cli.daskrun import DaskRuns

    return DaskRuns(reactor, options)


def _run(
    reactor: IClientReactor,
    options: ClientOptions,
    target: Target | None,
    outputs: RunOutputs,
    status: ClientStatus,
) -> tuple[Results, int | None]:
    """
    Run the reactor until the run ends or a signal stops it.

    @return: the results so far, and the signal; C{None}: no signal stopped the run.
    """
    run: MeasuredRun | Search
    text, view = outputs.text, None
    percents = options.percents or PERCENTS
    parts = _daskRuns(reactor, options)

    def made(workload: Workload) -> MeasuredRun:
        one: MeasuredRun
        if parts is None:
            one = _inThisProcess(reactor, options, workload)
        else:
            one = parts.run(workload)
        one.results.title, one.results.labels = options.title, options.labels
        status.show(one.results)
        return one

    if options.goals is not None:
        run = _search(options, outputs, made)
    else:
        run = one = made(options.workload)
        # Trace lines on the same terminal would break the live view.
        tracing = options.target is None or options.trace > Trace.NONE
        choice = "never" if tracing and sys.stderr.isatty() else options.progress
        view = progress(choice, sys.stderr, one.sender.remaining)
        one.ticker.watchers += [
            *outputs.watchers,
            *([view] if view is not None else []),
            *([Exemption().intervalEnded] if parts is None else []),
        ]
    outcome: list[Results | Failure] = []

    def start() -> None:
        Deferred.fromCoroutine(_job(reactor, target, run)).addBoth(finish)

    def finish(result: Results | Failure) -> None:
        interrupts.runEnded()
        outcome.append(result)
        closing = [status.stop(), *([] if parts is None else [parts.close()])]
        DeferredList(closing, consumeErrors=True).addBoth(lambda _: reactor.stop())

    def show() -> None:
        so = run.soFar()
        if so is None:
            return
        if view is not None and text.isatty():
            view.say(_reported(so, percents, text).rstrip("\n") + "\n")
        else:
            printLine(_reported(so, percents, text).rstrip("\n"), text)

    interrupts = Interrupts(
        partial(reactor.callFromThread, run.interrupt), partial(reactor.callFromThread, show)
    )
    reactor.callWhenRunning(start)
    # The handlers of L{Interrupts} stay until the end of the process.
    cast(Any, reactor).run(installSignalHandlers=False)
    if view is not None:
        view.close()
    (result,) = outcome
    if isinstance(result, Failure):
        if parts is not None:
            parts.exitIfRefused(result)
        result.raiseException()
    if result.search is not None and not options["quiet"]:
        printLine(searchText(result.search), text)
    return result, interrupts.number


def _reported(results: Results, percents: Sequence[float], text: IO[str]) -> str:
    """Return the report for a stream."""
    return report(results, percents, widthOf(text), hasColour(text))


def _printFailures(options: ClientOptions, results: Results, text: IO[str]) -> None:
    """
    Print failures, warnings and expectations that were not met on stderr, unless the report
    shows them there.
    """
    together = text is sys.stderr or (text.isatty() and sys.stderr.isatty())
    if together and not options["quiet"]:
        return
    for line in failureLines(results):
        printError(f"{options.program}: {line}")
    for sentence in results.warnings:
        printError(f"{options.program}: warning: {sentence}")
    for line in unmetLines(results):
        printError(f"{options.program}: {line}")


def main() -> NoReturn:
    """
    Run the program.

    @raise SystemExit: always, with the exit status that the help explains.
    """
    prepareStreams()
    options = ClientOptions()
    options.parseOptions()
    fit = connectionsThatFit(raiseDescriptorLimit())
    if options.dask is None and options.connections > fit:
        options.refuse(
            "connections",
            f"{options.connections:,} do not fit: this process can open descriptors"
            f" for {fit:,} connections (ulimit -n)",
        )

    # Not before, because the import chooses the reactor.
    from twisted.internet import reactor as chosen

    useMonotonicTime(cast(IClientReactor, chosen))
    reactor = cast(IClientReactor, options.connectionReactor(chosen))
    target = None
    if options.target is not None:
        try:
            target = Target(
                reactor,
                options.target,
                options.patience.connect,
                options.opening.addresses,
                family=options.family,
                tls=options.tls,
                socketOptions=options.socketOptions,
            )
        except EndpointError as error:
            options.refuse("connect", str(error))
    outputs = RunOutputs(options)
    text = outputs.text
    globalLogBeginner.beginLoggingTo(
        [_LogObserver(text, options.program)], discardBuffer=True, redirectStandardIO=False
    )
    # The reactor itself, because the fast lane is for the measured connections.
    serving = ClientStatus(options, chosen)
    outputs.begin()
    searchRarely()

    if target is None:
        printLine(_INTRODUCTION, text)
    try:
        sys.exit(_runAndTell(reactor, options, target, outputs, serving))
    finally:
        cancelLimit()


def _runAndTell(
    reactor: IClientReactor,
    options: ClientOptions,
    target: Target | None,
    outputs: RunOutputs,
    serving: ClientStatus,
) -> int:
    """Run, write all outputs, and return the exit status."""
    text = outputs.text
    results, number = _run(reactor, options, target, outputs, serving)
    results.expectations = judge(results, options.expectations)
    status = _EXIT_STATUSES.get(results.verdict) or 0
    if number is not None and results.interrupted:
        status = _SIGNAL_STATUS + number
    _printFailures(options, results, text)
    if not options["quiet"]:
        shown = _reported(results, options.percents or PERCENTS, text)
        status = writeOutput(options, "report", text, shown) or status
    started = asStarted(f"python -m {type(options).program}")
    command = printable(f"{started} {shlex.join(sys.argv[1:])}")
    return outputs.write(results, command) or status
