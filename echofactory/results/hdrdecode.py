"""
Decodes an U{HdrHistogram<http://hdrhistogram.org>} (V2, compressed) from untrusted text. The
settings of a histogram limit its size, and this module decompresses no more than that. The
library's own decoder allocates as much memory as the text demands.
"""

import struct
import zlib
from base64 import b64decode
from collections.abc import Iterator
from typing import NamedTuple

_WRAPPED = struct.Struct(">II")
"""Cookie; length of the compressed payload in bytes."""
_HEADER = struct.Struct(">IIIIQQd")
"""Cookie; length of the counts in bytes; offset; the three settings; ratio."""
_COMPRESSED_COOKIE = 0x1C849314
_COOKIE = 0x1C849313
_LONGEST_NUMBER = 9
"""Bytes of the longest encoded number."""


class HistogramSettings(NamedTuple):
    """
    The settings of a histogram. Only histograms with the same settings can be added.

    @ivar lowest: the lowest reading that is told apart from 0.
    @ivar highest: the highest reading.
    @ivar digits: significant decimal digits of a reading.
    @ivar steps: the highest number of counts.
    """

    lowest: int
    highest: int
    digits: int
    steps: int


def decodedCounts(text: str, settings: HistogramSettings) -> dict[int, int]:
    """
    Return the counts of a histogram that are not 0, by step number.

    @raise ValueError: if the text is not a histogram with these settings.
    """
    try:
        numbers = _numbers(_decompressed(b64decode(text, validate=True), settings))
        return dict(_byStep(numbers, settings.steps))
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        raise ValueError(
            f"not an HdrHistogram (V2, compressed, base64) of {settings.digits} digits"
            f" from {settings.lowest:,} to {settings.highest:,}"
        ) from error


def _decompressed(data: bytes, settings: HistogramSettings) -> bytes:
    """
    Return the encoded counts.

    @raise ValueError: if the data is not a histogram with these settings.
    """
    cookie, size = _WRAPPED.unpack_from(data)
    if cookie != _COMPRESSED_COOKIE or size != len(data) - _WRAPPED.size:
        raise ValueError("not compressed")
    most = _HEADER.size + settings.steps * _LONGEST_NUMBER
    decompressor = zlib.decompressobj()
    payload = decompressor.decompress(data[_WRAPPED.size :], most + 1)
    if len(payload) > most or not decompressor.eof or decompressor.unused_data:
        raise ValueError("too long, or cut off")
    cookie, size, offset, digits, lowest, highest, _ = _HEADER.unpack_from(payload)
    if cookie != _COOKIE or offset or size != len(payload) - _HEADER.size:
        raise ValueError("not V2")
    if (lowest, highest, digits) != settings[:3]:
        raise ValueError("of other settings")
    return payload[_HEADER.size :]


def _numbers(data: bytes) -> Iterator[int]:
    """
    Decode numbers in ZigZag and LEB128. All eight bits of a ninth byte are data.

    @raise IndexError: if the last number is not complete.
    """
    at = 0
    while at < len(data):
        number = shift = 0
        for place in range(_LONGEST_NUMBER):
            byte = data[at]
            at += 1
            if place == _LONGEST_NUMBER - 1 or byte < 0x80:
                number |= byte << shift
                break
            number |= (byte & 0x7F) << shift
            shift += 7
        yield (number >> 1) ^ -(number & 1)


def _byStep(numbers: Iterator[int], steps: int) -> Iterator[tuple[int, int]]:
    """
    Return the steps with readings, and the count of each. A negative number, -n, stands for n
    steps without readings.

    @raise ValueError: if there are more than C{steps} steps.
    """
    step = 0
    for number in numbers:
        if number > 0:
            yield step, number
        step += max(1, -number)
        if step > steps:
            raise ValueError("too many counts")
