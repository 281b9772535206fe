"""
What carried the connections of a run.
"""

from typing import Any

import pytest
from schema import FACTS, validate

from echofactory.report.compare import Run, comparison
from echofactory.report.text import summary
from echofactory.results.books import Results
from echofactory.results.connectionfacts import (
    MAX_DIFFERENT,
    ConnectionFacts,
    SocketFacts,
    TLSFacts,
    tallyText,
)
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.merge import merged

pytestmark = pytest.mark.oldest

VERIFIED = TLSFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", True, "h2")
NOT_VERIFIED = TLSFacts("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", False, None)


def aRun(*sessions: TLSFacts, address: str = "127.0.0.1:7") -> Results:
    results = Results(target="tls:echo.example:7", workload=FACTS, requested=0)
    results.elapsedNs = 1_000_000_000
    for session in sessions:
        results.connectionFacts.noteAddress(address)
        results.connectionFacts.noteTLS(session)
    return results


def rows(results: Results) -> dict[str, str]:
    """Return the lines of the report by their names."""
    return dict(summary(results))


def test_the_report() -> None:
    """One line for each."""
    results = aRun(VERIFIED, VERIFIED)
    results.connectionFacts.noteSocket(SocketFacts(46, "bbr"))
    found = rows(results)
    assert found["address"] == "127.0.0.1:7"
    assert found["tls"] == "TLSv1.3, TLS_AES_256_GCM_SHA384, verified, ALPN h2"
    assert found["sockets"] == "DSCP 46, congestion control bbr"


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("tcp:127.0.0.1:7", "127.0.0.1:7"),
        ("udp:[::1]:7", "[::1]:7"),
        (r"tcp:\:\:1:7", "[::1]:7"),
    ],
)
def test_a_target_that_is_an_address(target: str, address: str) -> None:
    """The report does not repeat it."""
    results = aRun(VERIFIED, address=address)
    results.target = target
    assert "address" not in rows(results)


def test_connections_that_differ() -> None:
    """The first, and how many differ."""
    results = aRun(VERIFIED, NOT_VERIFIED, VERIFIED)
    assert rows(results)["tls"].endswith("ALPN h2; 1 of 3 connections differs")
    tally = {NOT_VERIFIED: 1, VERIFIED: 2}
    assert tallyText(tally, 0) == (
        "TLSv1.2, ECDHE-RSA-AES128-GCM-SHA256, not verified; 2 of 3 connections differ"
    )


def test_json() -> None:
    """Each with its connections; what is read is what was written."""
    results = aRun(VERIFIED, NOT_VERIFIED, VERIFIED)
    results.connectionFacts.noteSocket(SocketFacts(None, "bbr"))
    written = validate(toJSON(results, "1.2.3"))
    assert written["addresses"] == [{"address": "127.0.0.1:7", "connections": 3}]
    assert written["tls"][0] == {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "verified": True,
        "alpn": "h2",
        "connections": 2,
    }
    assert written["sockets"] == [{"dscp": None, "congestion": "bbr", "connections": 1}]
    assert fromJSON(written).connectionFacts == results.connectionFacts


def test_version_2() -> None:
    """It has none of them."""
    written: Any = toJSON(aRun(VERIFIED), "1.2.3")
    for name in ("addresses", "tls", "sockets"):
        del written[name]
    read = fromJSON(written | {"schema": "echofactory.results/2"})
    assert read.connectionFacts == ConnectionFacts()


@pytest.mark.parametrize("name", ["addresses", "tls", "sockets"])
def test_a_field_that_is_missing(name: str) -> None:
    """It is not a file of this version."""
    written: Any = toJSON(aRun(VERIFIED), "1.2.3")
    del written[name]
    with pytest.raises(ValueError, match=name):
        fromJSON(written)


def test_merging() -> None:
    """The connections are added up."""
    whole = merged([aRun(VERIFIED, NOT_VERIFIED), aRun(NOT_VERIFIED, address="[::1]:7")])
    assert whole.connectionFacts.tls == {VERIFIED: 1, NOT_VERIFIED: 2}
    assert whole.connectionFacts.addresses == {"127.0.0.1:7": 2, "[::1]:7": 1}


def test_comparing() -> None:
    """Only what differs has a row."""
    table = comparison([Run("a", aRun(VERIFIED)), Run("b", aRun()), Run("c", aRun(VERIFIED))])
    titled = dict(table)
    assert [cell.figure for cell in titled["tls"]] == [str(VERIFIED), "-", str(VERIFIED)]
    assert "sockets" not in titled
    same = comparison([Run("a", aRun(VERIFIED)), Run("b", aRun(VERIFIED))])
    assert not {"tls", "address"} & dict(same).keys()


def test_many_addresses() -> None:
    """Their number is limited: a monitor runs for months."""
    facts = ConnectionFacts()
    for number in range(MAX_DIFFERENT + 5):
        facts.noteAddress(f"192.0.2.1:{number + 1}")
    facts.noteAddress("192.0.2.1:1")
    assert len(facts.addresses) == MAX_DIFFERENT
    assert facts.addresses["192.0.2.1:1"] == 2
    told = tallyText(facts.addresses, MAX_DIFFERENT + 6)
    assert told == (
        "192.0.2.1:1; 104 of 106 connections differ, 5 of them in none of the 100 listed ways"
    )
    assert tallyText({"a:1": 2, "b:1": 1}, 9) == "a:1; 1 of 3 connections differs"
