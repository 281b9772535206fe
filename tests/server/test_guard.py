"""
Which datagrams are answered.
"""

from collections import Counter

import pytest

from echofactory.server.guard import (
    DatagramGuard,
    DatagramRefusal,
)


class TestGuard:
    def test_well_known_ports(self) -> None:
        """No port below 1024 is answered, 0 included; from there on all are."""
        guard = DatagramGuard()
        refused = [port for port in range(2000) if guard.refusal("192.0.2.1", port, 0.0)]
        assert refused == list(range(1024))
        assert guard.refusal("2001:db8::1", 19, 0.0) is DatagramRefusal.LOW_PORT

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "192.0.2.1", "::1", "fe80::1"])
    def test_ports_that_are_echoed_here(self, host: str) -> None:
        """They are not answered, at any address: it may be another of this machine's."""
        guard = DatagramGuard(ports=Counter([7007]))
        assert guard.refusal(host, 7007, 0.0) is DatagramRefusal.OWN_PORT
        assert guard.refusal(host, 7008, 0.0) is None

    @pytest.mark.parametrize("rate", [1, 7, 1000])
    def test_the_rate_of_a_source(self, rate: int) -> None:
        """
        A second's worth at once, whatever the port, wherever a second begins; and again
        after a second, and half of that after half of one.
        """
        for began in (0.999, 1.7e9):
            guard = DatagramGuard(rate)
            for after, most in ((0.0, rate), (1.0, rate), (1.5, rate // 2), (9.0, rate)):
                answers = [
                    guard.refusal("192.0.2.1", 2000 + number, began + after)
                    for number in range(rate + 5)
                ]
                assert answers == [None] * most + [DatagramRefusal.RATE] * (rate + 5 - most)
            assert guard.refusal("192.0.2.2", 2000, began) is None

    def test_a_steady_source(self) -> None:
        """Exactly the rate is answered, for as long as it lasts; twice that, by half."""
        guard = DatagramGuard(100)
        for asked, answered in ((100, 1000), (200, 1100)):
            host = f"192.0.2.{asked}"
            times = [1.7e9 + number / asked for number in range(10 * asked)]
            answers = Counter(guard.refusal(host, 2000, each) for each in times)
            assert abs(answers[None] - answered) <= 2

    def test_a_clock_that_is_set_back(self) -> None:
        """A source is not shut out until the clock is where it was."""
        guard = DatagramGuard(2, sources=1)
        assert [guard.refusal("192.0.2.1", 2000, 9000.0) for _ in range(2)] == [None, None]
        assert guard.refusal("192.0.2.1", 2000, 10.0) is DatagramRefusal.RATE
        assert guard.refusal("192.0.2.1", 2000, 11.0) is None
        assert guard.refusal("192.0.2.2", 2000, 1.0) is None

    @pytest.mark.parametrize(
        ("one", "other", "together"),
        [
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("fe80::1%lo", "fe80::2", True),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ],
    )
    def test_who_is_one_source(self, one: str, other: str, together: bool) -> None:
        """A /64 of IPv6, and an IPv4 address however it is written."""
        guard = DatagramGuard(rate=1)
        assert guard.refusal(one, 2000, 0.0) is None
        assert guard.refusal(other, 2000, 0.0) is (DatagramRefusal.RATE if together else None)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
    def test_the_loopback_has_no_limit(self, host: str) -> None:
        """No network can send from there."""
        guard = DatagramGuard(rate=1)
        assert [guard.refusal(host, 2000, 0.0) for _ in range(3)] == [None] * 3

    def test_the_table_is_bounded(self) -> None:
        """What does not fit is not answered; who is in it is, and the next second all are."""
        guard = DatagramGuard(sources=2)
        answers = [guard.refusal(f"192.0.2.{n}", 2000, 5.0) for n in (1, 2, 3, 1, 2, 4)]
        assert answers == [
            None,
            None,
            DatagramRefusal.SOURCES,
            None,
            None,
            DatagramRefusal.SOURCES,
        ]
        assert guard.refusal("192.0.2.3", 2000, 6.0) is None

    def test_nonsense(self) -> None:
        """A rate or a table of nothing is refused."""
        with pytest.raises(ValueError, match="rate: 0 is not 1 or more"):
            DatagramGuard(rate=0)
        with pytest.raises(ValueError, match="sources: -1 is not 1 or more"):
            DatagramGuard(sources=-1)
