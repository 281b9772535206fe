"""
Histograms from untrusted text.
"""

import struct
import tracemalloc
import zlib
from base64 import b64encode

import pytest

from echofactory.results.latency import Latency

HEADER = (0, 3, 1000, 3_600_000_000_000, 1.0)
"""Offset, digits, lowest and highest reading, ratio: as ours have them."""
MOST = (1 << 63) - 1


def encoded(counts: bytes, header: tuple[float, ...] = HEADER, size: int | None = None) -> str:
    """Wrap encoded counts as the library does."""
    payload = struct.pack(
        ">IIIIQQd", 0x1C849313, len(counts) if size is None else size, *header
    )
    packed = zlib.compress(payload + counts, 9)
    return b64encode(struct.pack(">II", 0x1C849314, len(packed)) + packed).decode()


def test_counts() -> None:
    """Three steps without readings, and one with two readings."""
    assert Latency.decoded(encoded(b"\x05\x04")).counts() == {3: 2}


def test_the_greatest_counts_and_steps() -> None:
    """As the library's encoder writes them."""
    counts = {0: 1, 1: 1 << 55, 2: 1 << 56, 24_204: MOST - (1 << 60)}
    assert Latency.decoded(Latency.fromCounts(counts).encoded()).counts() == counts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HIST",
        "ü",
        "\udcff",
        encoded(b"\x80"),
        encoded(b"\xff" * 12),
        encoded(b"\x02" * 24_206),
        encoded(b"\xff" * 9 + b"\x02"),
        encoded(b"\x02", (0, 5, 1, 1 << 62, 1.0)),
        encoded(b"\x02", (1, *HEADER[1:])),
        encoded(b"\x02", size=2),
        encoded(b"\x02")[:-8],
    ],
)
def test_what_is_no_histogram(text: str) -> None:
    """It is refused in one line, whatever is wrong with it."""
    with pytest.raises(ValueError, match=r"^not an HdrHistogram .* of 3 digits from 1,000 to"):
        Latency.decoded(text)


def test_a_bomb_costs_no_memory() -> None:
    """50 MB in 50 kB: no more is taken out of it than a histogram can have."""
    bomb = encoded(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^not an HdrHistogram"):
            Latency.decoded(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
