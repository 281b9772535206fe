"""
The option C{--expect}: what a run has to reach.
"""

from collections.abc import Iterable
from dataclasses import replace

from twisted.python import usage

from echofactory.cli.options import CommandOptions, Option
from echofactory.net.endpoints import unwrapped
from echofactory.results.expectations import Expectation, Unit

_FORM = (
    "Expectations joined with commas. Each is a quantity, a comparison (<, <=, >, >=) and a"
    " bound. Can be repeated. The quantities are the response time (p50, p99.9, any pN, min,"
    " mean, max), other latencies (service:p99, connect:max, lag:p99), failed, lost, reordered,"
    " unsent, retransmits and rate."
)

EXPECT = Option(
    "expect",
    "EXPECTATIONS",
    str,
    None,
    f"{_FORM} If one is not met, the exit status is 3. A failure or a lost datagram still makes"
    " it 1, whatever failed and lost accept; --expect of the report accepts it.",
    example="'p99<5ms,rate>=99%'",
    repeated=True,
)
"""The option of the client."""

EXPECT_OF_REPORT = replace(
    EXPECT,
    help=f"{_FORM} A bound with a sign counts from the first of several files: p99<+10%. A"
    " difference that the comparison calls noise meets it. If one is not met, the exit status"
    " is 3. If a run failed or was interrupted, it is 1; an expectation of failed or lost"
    " accepts failures.",
    example="'p99<+10%,rate>-5%,failed<=0'",
)
"""The option of the report."""


def readExpectations(options: CommandOptions) -> tuple[Expectation, ...]:
    """
    Return the values of C{--expect}.

    @raise usage.UsageError: naming the expectation and what is accepted.
    """
    try:
        return tuple(
            Expectation(text.strip())
            for given in options["expect"]
            for text in given.split(",")
        )
    except ValueError as error:
        raise usage.UsageError(f"--expect: {str(error).removeprefix('text: ')}") from None


def refuseRelative(expectations: Iterable[Expectation], why: str) -> None:
    """
    @param why: the end of the message: where such an expectation works.
    @raise usage.UsageError: if an expectation is relative.
    """
    for expectation in expectations:
        if expectation.relative:
            raise usage.UsageError(
                f"--expect: {expectation.text!r} compares with another run: {why}"
            )


def refuseUnmeasured(
    expectations: Iterable[Expectation], scheduled: bool, target: str | None
) -> None:
    """
    Refuse expectations about figures that a run cannot have.

    @param scheduled: whether the run has a rate.
    @param target: the client endpoint string; C{None}: a server of this process.
    @raise usage.UsageError: naming the expectation and what it needs.
    """
    kind = unwrapped(target or "tcp:")[1].partition(":")[0].lower()
    for expectation in expectations:
        of = expectation.latency or expectation.quantity
        share = expectation.unit is Unit.PERCENT
        needs = None
        if not scheduled and (of in ("service", "lag", "unsent") or (of == "rate" and share)):
            needs = "--rate or --find-rate"
        elif of in ("lost", "reordered") and kind != "udp":
            needs = "--connect udp:HOST:PORT"
        elif of == "connect" and kind == "udp":
            needs = "connections: UDP has no connect time"
        elif of == "retransmits" and kind in ("udp", "unix"):
            needs = "TCP"
        if needs is not None:
            raise usage.UsageError(f"--expect: {expectation.text!r} needs {needs}")
