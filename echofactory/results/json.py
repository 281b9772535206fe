"""
Writes and reads the JSON of results, and checks it against the schema of the package
(C{results.schema.json}).
"""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from echofactory.results.books import Results
from echofactory.results.connectionfacts import ConnectionFacts
from echofactory.results.expectations import Judgement
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.intervals import intervalsFromJSON
from echofactory.results.latency import Latency
from echofactory.results.ownerror import ownErrorNs
from echofactory.results.partfacts import PartsFacts
from echofactory.results.path import Datagrams, Kernel
from echofactory.results.schedulefacts import ScheduleFacts
from echofactory.results.search import SearchOutcome
from echofactory.results.workloadfacts import WorkloadFacts

SCHEMA = "echofactory.results/3"
_FIRST = "echofactory.results/1"
_SECOND = "echofactory.results/2"


def _mistake(written: dict[str, Any]) -> str | None:
    """
    Return the place and the reason if JSON breaks the schema of the package; C{None}: it does
    not. L{intervalsFromJSON} checks the intervals.
    """
    if isinstance(written.get("intervals"), list):
        written = written | {"intervals": []}
    # Imported here, because only programs that read results need it.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = files("echofactory").joinpath("results.schema.json").read_text("utf-8")
    mistake = best_match(Draft202012Validator(json.loads(schema)).iter_errors(written))
    if mistake is None:
        return None
    # The message may quote the whole object.
    return f"{mistake.json_path}: {mistake.message[:200]}"


def _fromFirst(written: dict[str, Any]) -> dict[str, Any]:
    """
    Convert results of version 1 to version 2.

    Version 1 has neither the time of the last send nor the messages that were due but not
    sent. The time of the last reply is used for the former, and 0 for the latter.
    """
    with suppress(KeyError, TypeError, OverflowError):
        # The check against the schema reports missing fields.
        rate, messages = written["rate"], written["messages"]
        asked, sent = rate["asked"], messages["sent"]
        overS = max(0.0, (rate["to_s"] or 0.0) - (rate["from_s"] or 0.0))
        if asked:
            overS = max(overS, sent / asked)
        due = None if asked is None else sent
        search = written["find_rate"]
        if search is not None:
            steps = [step | {"ended_early": False} for step in search["steps"]]
            search = search | {"steps": steps}
        written = written | {
            "rate": rate | {"over_s": overS},
            "messages": messages | {"due": due, "unsent": 0},
            "find_rate": search,
            "interval_s": None,
            "warnings": [],
        }
    return written | {"schema": _SECOND}


def _fromSecond(written: dict[str, Any]) -> dict[str, Any]:
    """
    Convert results of version 2 to the present version.

    Version 2 has no title, no labels, no expectations, no warm-up and no receive lag. It does
    not reconnect, does not keep the schedule, and does not spin. It has no parts, and nothing
    of what carried the connections.
    """
    added: dict[str, Any] = {
        "title": "",
        "labels": {},
        "expectations": [],
        "parts": None,
        "receive_lag_ns": None,
        "client": {"spin": False, "own_ns": None, "receive_lag_dropped": 0},
    }
    with suppress(KeyError, TypeError):
        # The check against the schema reports missing fields.
        search = written["find_rate"]
        if search is not None and search["ended_by"] == "first":
            search = search | {"ended_by": "lowest"}
        written = written | {
            "workload": written["workload"] | {"warm_up_s": 0.0, "reconnect": False},
            "connections": written["connections"] | {"reconnects": None, "missing": None},
            "rate": written["rate"] | {"schedule": None},
            "warm_up": None,
            "histograms": written["histograms"] | {"receive_lag": None},
            "find_rate": search,
        }
    return written | added | ConnectionFacts().asJSON() | {"schema": SCHEMA}


def _started(text: str) -> datetime:
    """
    Read the time at which a run began.

    @raise ValueError: if the text is not a time, or has no time zone.
    """
    try:
        started = datetime.fromisoformat(text)
        if started.tzinfo is None:
            raise ValueError("the time has no time zone")
        return started.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"$.started: {error}") from error


def _latency(written: dict[str, Any], name: str) -> Latency:
    """
    Read a latency from its histogram.

    @raise ValueError: if the text is not a histogram, or has another number of readings than
        the field C{count}.
    """
    try:
        latency = Latency.decoded(written["histograms"][name])
    except ValueError as error:
        raise ValueError(f"$.histograms.{name}: {error}") from error
    if latency.count != written[f"{name}_ns"]["count"]:
        raise ValueError(f"$.histograms.{name}: the number of readings is not {name}_ns.count")
    return latency


def _judgements(written: list[dict[str, Any]]) -> list[Judgement]:
    """
    Read the expectations.

    @raise ValueError: if one contradicts itself.
    """
    judgements = []
    for number, each in enumerate(written):
        try:
            judgements.append(Judgement.fromJSON(each))
        except ValueError as error:
            raise ValueError(f"$.expectations[{number}].{error}") from error
    return judgements


def toJSON(results: Results, version: str) -> dict[str, object]:
    """
    Return the object that C{--json} writes. C{results.schema.json} describes it.

    @param version: the version of echofactory.
    """
    elapsed = results.elapsedNs / 1e9
    rates = results.wholeRates()
    receiveLag = results.receiveLag
    return {
        "schema": SCHEMA,
        "version": version,
        "started": results.started.isoformat(timespec="milliseconds"),
        "elapsed_s": elapsed,
        "title": results.title,
        "labels": results.labels,
        "target": results.target,
        "workload": results.workload.asJSON(),
        "connections": {
            "requested": results.requested,
            "established": results.established,
            "completed": results.completed,
            "failed": results.failed,
            "peak_open": results.peakOpen,
            "reconnects": results.reconnects if results.workload.reconnect else None,
            "missing": results.missing if results.workload.reconnect else None,
        },
        "failures": {str(kind): n for kind, n in sorted(results.failures.items())},
        "examples": {str(kind): e.asJSON() for kind, e in sorted(results.examples.items())},
        "messages": {
            "due": results.due if results.rateAsked is not None else None,
            "unsent": results.unsent,
            "sent": results.sent,
            "verified": results.verified,
            "mismatched": results.mismatched,
            "unanswered": results.unanswered,
        },
        "bytes": {"sent": results.bytesSent, "received": results.bytesReceived},
        "rate": {
            "asked": results.rateAsked,
            "achieved": results.achieved,
            "over_s": results.overNs / 1e9,
            "from_s": (results.firstAt - results.beganAt) / 1e9 if results.firstAt else None,
            "to_s": (results.lastAt - results.beganAt) / 1e9 if results.lastAt else None,
            "min": min(rates, default=None),
            "max": max(rates, default=None),
            "schedule": results.schedule.asJSON() if results.schedule is not None else None,
        },
        "warm_up": _warmUp(results),
        **results.connectionFacts.asJSON(),
        "tcp": results.kernel.asJSON(),
        "datagrams": asdict(results.datagrams) if results.datagrams is not None else None,
        "response_ns": results.response.asJSON(),
        "service_ns": results.serviceTime.asJSON(),
        "connect_ns": results.connect.asJSON(),
        "send_lag_ns": results.sendLag.asJSON(),
        "receive_lag_ns": receiveLag.asJSON() if receiveLag is not None else None,
        "client": {
            "spin": results.spin,
            "own_ns": ownErrorNs(results),
            "receive_lag_dropped": results.receiveLagDropped,
        },
        "histograms": {
            "response": results.response.encoded(),
            "service": results.serviceTime.encoded(),
            "connect": results.connect.encoded(),
            "send_lag": results.sendLag.encoded(),
            "receive_lag": receiveLag.encoded() if receiveLag is not None else None,
        },
        "interval_s": results.intervalNs / 1e9 if results.intervalNs else None,
        "intervals": [interval.asJSON() for interval in results.intervals],
        "parts": results.parts.asJSON() if results.parts is not None else None,
        "find_rate": results.search.asJSON() if results.search is not None else None,
        "expectations": [judgement.asJSON() for judgement in results.expectations],
        "warnings": results.warnings,
        "verdict": results.verdict,
    }


def _warmUp(results: Results) -> dict[str, object] | None:
    """Return the C{warm_up} of the JSON."""
    if not results.workload.warmUpS:
        return None
    return {
        "due": results.uncountedDue if results.rateAsked is not None else None,
        "verified": results.uncounted,
        "received_bytes": results.uncountedBytes,
    }


def fromJSON(written: Any) -> Results:
    """
    Return the results that L{toJSON} of this or an older version wrote.

    @raise ValueError: if the JSON is something else.
    """
    if not isinstance(written, dict) or written.get("schema") not in (
        _FIRST,
        _SECOND,
        SCHEMA,
    ):
        raise ValueError(f"not the results of a run ({SCHEMA})")
    if written["schema"] == _FIRST:
        written = _fromFirst(written)
    if written["schema"] == _SECOND:
        written = _fromSecond(written)
    if (mistake := _mistake(written)) is not None:
        raise ValueError(f"not the results of a run: {mistake}")
    try:
        return _read(written)
    except ValueError as error:
        raise ValueError(f"not the results of a run: {error}") from error


def _read(written: dict[str, Any]) -> Results:
    connections, messages = written["connections"], written["messages"]
    rate = written["rate"]
    datagrams = written["datagrams"]
    due, asked = messages["due"] or 0, rate["asked"]
    if asked is not None and due > asked * 1e9:
        raise ValueError("$.messages.due: more than 1e9 s at the scheduled rate")
    search, schedule = written["find_rate"], rate["schedule"]
    parts = written["parts"]
    warmUp = written["warm_up"] or {"due": 0, "verified": 0, "received_bytes": 0}
    warmUpDue = warmUp["due"] or 0
    for name, most in (
        ("due", due),
        ("verified", messages["verified"]),
        ("received_bytes", written["bytes"]["received"]),
    ):
        if (warmUp[name] or 0) > most:
            raise ValueError(f"$.warm_up.{name}: more than in the whole run")
    # Without a rate, the service time is not used, but it has to be valid.
    service = _latency(written, "service")
    noReceiveLag = written["receive_lag_ns"] is None
    firstAt = round((rate["from_s"] or 0) * 1e9)
    return Results(
        title=written["title"],
        labels=dict(written["labels"]),
        target=written["target"],
        workload=WorkloadFacts.fromJSON(written["workload"]),
        requested=connections["requested"],
        started=_started(written["started"]),
        established=connections["established"],
        completed=connections["completed"],
        peakOpen=connections["peak_open"],
        reconnects=connections["reconnects"] or 0,
        missing=connections["missing"] or 0.0,
        failures=Counter(
            {FailureKind(kind): count for kind, count in written["failures"].items()}
        ),
        examples={
            FailureKind(kind): ConnectionFailure(kind=FailureKind(kind), **example)
            for kind, example in written["examples"].items()
        },
        sent=messages["sent"],
        verified=messages["verified"],
        mismatched=messages["mismatched"],
        unanswered=messages["unanswered"],
        bytesSent=written["bytes"]["sent"],
        bytesReceived=written["bytes"]["received"],
        connect=_latency(written, "connect"),
        response=_latency(written, "response"),
        service=service if asked is not None else None,
        sendLag=_latency(written, "send_lag"),
        connectionFacts=ConnectionFacts.fromJSON(written),
        receiveLag=None if noReceiveLag else _latency(written, "receive_lag"),
        receiveLagDropped=written["client"]["receive_lag_dropped"],
        spin=written["client"]["spin"],
        kernel=Kernel.fromJSON(written["tcp"]),
        datagrams=Datagrams(**datagrams) if datagrams is not None else None,
        intervals=intervalsFromJSON(written["intervals"]),
        parts=PartsFacts.fromJSON(parts) if parts is not None else None,
        search=SearchOutcome.fromJSON(search) if search is not None else None,
        expectations=_judgements(written["expectations"]),
        rateAsked=asked,
        schedule=ScheduleFacts.fromJSON(schedule) if schedule is not None else None,
        due=due,
        uncounted=warmUp["verified"],
        uncountedDue=warmUpDue,
        uncountedBytes=warmUp["received_bytes"],
        scheduledNs=round((due - warmUpDue) / asked * 1e9) if asked is not None else 0,
        elapsedNs=round(written["elapsed_s"] * 1e9),
        firstAt=firstAt,
        lastSentAt=firstAt + round(rate["over_s"] * 1e9),
        lastAt=round((rate["to_s"] or 0) * 1e9),
        intervalNs=round((written["interval_s"] or 0) * 1e9),
        interrupted=written["verdict"] == "interrupted",
        warnings=list(written["warnings"]),
    )
