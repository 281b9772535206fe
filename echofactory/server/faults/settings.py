"""
Faults on purpose: how a faulty echo damages its bytes, and when it sends them.

This module is pure: no transport, no clock, no Twisted. Times are in seconds since the
server was made. All random choices come from a seed and the connection's number. The same
seed reproduces the same faults.
"""

from collections import deque
from dataclasses import dataclass, fields
from math import floor, log, log1p
from random import Random
from typing import NamedTuple

from echofactory.values.checks import (
    MAX_SIZE,
    checkChance,
    checkSeconds,
    checkType,
    checkWhole,
)

_NEVER = 1 << 62
"""Bytes: more than any stream has."""


@dataclass(frozen=True)
class Stall:
    """
    A pause in sending that repeats: in every period of C{every} seconds, nothing is sent in
    the last C{lasts} seconds.

    @ivar lasts: seconds of a pause, more than 0 and less than C{every}.
    @ivar every: seconds from the start of one pause to the start of the next.
    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    lasts: float
    every: float

    def __post_init__(self) -> None:
        for name in ("lasts", "every"):
            checkSeconds(f"stall: {name}", getattr(self, name))
        if self.lasts >= self.every:
            raise ValueError(
                f"stall: {self.lasts:g} s is not less than its period of {self.every:g} s"
            )

    def after(self, time: float) -> float:
        """Return C{time}. If it is in a stall, return the end of the stall."""
        end = (floor(time / self.every) + 1) * self.every
        return end if time >= end - self.lasts else time

    def __str__(self) -> str:
        return f"{_milliseconds(self.lasts)}/{_milliseconds(self.every)}"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """
    The faults of a faulty echo. By default, there are none.

    C{str} writes them as the option C{--fault} takes them.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    delay: float = 0.0
    """Delay of each chunk in seconds, 0 or more. Default: 0."""
    jitter: float = 0.0
    """Maximum deviation from C{delay} in seconds, from 0 to C{delay}, uniformly distributed.
    The order of the bytes is kept. Default: 0."""
    throttle: int | None = None
    """Maximum bytes per second on each connection, 1 or more. C{None} (default): no limit."""
    dribble: int | None = None
    """Maximum bytes in one write, 1 or more. Each write is sent before the next one.
    C{None} (default): no limit."""
    corrupt: float = 0.0
    """Probability that a byte is altered, from 0 to 1. Default: 0."""
    drop: float = 0.0
    """Probability that a byte is left out, from 0 to 1. Default: 0."""
    repeat: float = 0.0
    """Probability that a byte is sent twice, from 0 to 1. Default: 0."""
    truncate: int | None = None
    """Number of bytes after which a connection is closed in order, 1 or more.
    C{None} (default): it is not."""
    reset: float = 0.0
    """Probability that a connection is reset when its first bytes arrive, from 0 to 1.
    Default: 0."""
    stall: Stall | None = None
    """When nothing is sent on any connection. C{None} (default): never."""
    refuse: float = 0.0
    """Probability that a connection is closed immediately, from 0 to 1. Default: 0."""

    def __post_init__(self) -> None:
        for name in ("delay", "jitter"):
            checkSeconds(name, getattr(self, name), zero=True)
        if self.jitter > self.delay:
            raise ValueError(
                f"jitter: {_milliseconds(self.jitter)} is more than the delay, which is"
                f" {_milliseconds(self.delay)}. The jitter varies the delay up and down"
            )
        for name in ("throttle", "dribble", "truncate"):
            if (value := getattr(self, name)) is not None:
                checkWhole(name, value, 1, MAX_SIZE, "byte")
        for name in ("corrupt", "drop", "repeat", "reset", "refuse"):
            checkChance(name, getattr(self, name))
        if self.stall is not None:
            checkType("stall", self.stall, Stall, "a Stall, such as Stall(1.0, 10.0)")

    def __str__(self) -> str:
        written = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value:
                text = _milliseconds(value) if field.name in ("delay", "jitter") else value
                written.append(f"{field.name}={text}")
        return ",".join(written)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.9f}".rstrip("0").rstrip(".") + "ms"


DAMAGED_PER_STEP = 1000
"""Average number of damaged bytes per step. Damage takes about 3 µs per byte, and no other
connection is served meanwhile."""


class Damage:
    """
    Damages a connection's bytes: bytes are altered, left out or repeated, and the stream is
    truncated.

    The result does not depend on how the stream is cut into chunks. Undamaged bytes cost
    almost nothing, because the distance to the next damaged byte is drawn.

    @ivar stepSize: how many bytes to feed in one step, so that a step is short.
    @ivar truncated: whether the stream has been truncated. Then nothing more comes out.
    """

    def __init__(self, faults: Faults, random: Random) -> None:
        self._random = random
        # If more than one damage hits a byte, they are applied in this order.
        self._chances = {
            name: chance
            for name in ("corrupt", "repeat", "drop")
            if (chance := getattr(faults, name))
        }
        damaging = sum(self._chances.values())
        self.stepSize = int(min(DAMAGED_PER_STEP / damaging, _NEVER)) if damaging else _NEVER
        # Bytes fed until now, and where in the stream each damage hits next.
        self._taken = 0
        self._next = {name: self._distance(chance) for name, chance in self._chances.items()}
        self._left = _NEVER if faults.truncate is None else faults.truncate
        self.truncated = False

    def _distance(self, chance: float) -> int:
        """Draw how many bytes are undamaged before the next damaged byte: a geometric
        distribution."""
        if chance == 1:
            return 0
        # C{random} returns numbers from 0 to less than 1. Zero has no logarithm.
        distance = log(1 - self._random.random()) / log1p(-chance)
        return int(min(distance, _NEVER))

    def feed(self, data: bytes) -> bytes:
        """Return the stream's next bytes after the damage."""
        end = self._taken + len(data)
        if min(self._next.values(), default=_NEVER) < end:
            damaged = self._damaged(data, end)
        else:
            damaged = data
        self._taken = end
        damaged = damaged[: self._left]
        self._left -= len(damaged)
        self.truncated = not self._left
        return damaged

    def _damaged(self, data: bytes, end: int) -> bytes:
        pieces: list[bytes] = []
        spared = 0
        while (place := min(self._next.values())) < end:
            at = place - self._taken
            pieces += (data[spared:at], self._met(data[at : at + 1], place))
            spared = at + 1
        return b"".join((*pieces, data[spared:]))

    def _met(self, byte: bytes, place: int) -> bytes:
        """Damage one byte, and draw the next place of each damage that hit it."""
        for name, chance in self._chances.items():
            if self._next[name] != place:
                continue
            self._next[name] = place + 1 + self._distance(chance)
            if name == "corrupt":
                byte = bytes([byte[0] ^ self._random.randrange(1, 256)])
            elif name == "repeat":
                byte *= 2
            else:
                byte = b""
        return byte


TICK = 0.01
"""Seconds. A throttled connection sends one piece per tick."""

MAX_CATCH_UP = 0.05
"""Seconds. If a throttled connection is late, it catches up at most this much: after a
pause, there is no long burst."""

MAX_QUEUED = 1 << 20
"""Bytes, approximately. If a connection's queue is longer, the server stops reading."""

CHUNK_OVERHEAD = 128
"""Bytes of memory that a chunk in the queue takes besides its data, approximately."""


class _Chunk(NamedTuple):
    due: float
    data: bytes


class DelayQueue:
    """
    The chunks that a connection has not sent yet. Each chunk has a time when it is due. It
    is damaged in small steps when it is taken.

    @ivar size: bytes of memory, approximately. 0: the queue is empty.
    """

    def __init__(self, faults: Faults, random: Random, damage: Damage) -> None:
        self.size = 0
        self._random = random
        self._damage = damage
        self._delay = faults.delay
        self._jitter = faults.jitter
        self._throttle = faults.throttle
        self._stall = faults.stall
        tick = None if faults.throttle is None else max(1, int(faults.throttle * TICK))
        sizes = [size for size in (faults.dribble, tick) if size is not None]
        self._pieceSize = min(sizes, default=_NEVER)
        self._queue: deque[_Chunk] = deque()
        # Bytes of the first chunk that were fed to the damage, the result of the last step,
        # and how many bytes of that result have been taken.
        self._fed = 0
        self._damaged = b""
        self._gone = 0
        self._lastDue = 0.0
        # When the throttle admits the next piece.
        self._freeAt = 0.0

    def put(self, data: bytes, now: float) -> None:
        """
        Add a chunk.

        @param data: at least one byte.
        @param now: the current time in seconds.
        """
        due = now + self._delay
        if self._jitter:
            due += self._random.uniform(-self._jitter, self._jitter)
        self._lastDue = max(self._lastDue, due)
        self._queue.append(_Chunk(self._lastDue, data))
        self.size += len(data) + CHUNK_OVERHEAD

    def nextAt(self, now: float) -> float:
        """
        Return when the next piece may go. If that is C{now} or before, it may go now. The
        queue must not be empty.
        """
        at = max(self._queue[0].due, self._freeAt)
        return at if self._stall is None else self._stall.after(max(at, now))

    def take(self, now: float) -> bytes:
        """
        Remove and return the bytes of the next write. The result is empty if nothing may go
        now, or if damage has left nothing of the next piece.
        """
        if not self._queue or self.nextAt(now) > now:
            return b""
        due, data = self._queue[0]
        if self._gone == len(self._damaged):
            raw = data[self._fed : self._fed + self._damage.stepSize]
            self._fed += len(raw)
            self._damaged = self._damage.feed(raw)
            self._gone = 0
        piece = self._damaged[self._gone : self._gone + self._pieceSize]
        self._gone += len(piece)
        if self._gone == len(self._damaged):
            self._finish(data)
        if self._throttle is not None:
            since = max(self._freeAt, due, now - MAX_CATCH_UP)
            self._freeAt = since + len(piece) / self._throttle
        return piece

    def _finish(self, data: bytes) -> None:
        """Called when the last step's result has been taken. C{data} is the first chunk."""
        if self._damage.truncated:
            self._queue.clear()
            self.size = 0
        elif self._fed == len(data):
            self._queue.popleft()
            self.size -= len(data) + CHUNK_OVERHEAD
            self._fed = 0


class ConnectionFaults:
    """
    The faults of one connection. They are the same for the same faults, seed and number.

    @ivar refused: whether the connection is closed immediately.
    @ivar reset: whether the connection is reset when its first bytes arrive.
    @ivar damage: damages the bytes.
    @ivar queue: the bytes that are not sent yet.
    @ivar dribbles: whether each write is sent before the next one. The reactor runs between
        two writes then.
    @ivar pauses: whether the reactor runs between two pieces. It does if there is damage,
        because a piece can take long then.
    """

    def __init__(self, faults: Faults, seed: int, number: int) -> None:
        """
        @param faults: the faults of every connection.
        @param seed: the seed of all random choices.
        @param number: number of the connection, from 1.
        """
        random = Random(f"{seed} {number}")
        self.refused = random.random() < faults.refuse
        self.reset = random.random() < faults.reset
        # The jitter has a generator of its own, because the network decides how many chunks
        # there are.
        jitter = Random(random.random())
        self.damage = Damage(faults, random)
        self.queue = DelayQueue(faults, jitter, self.damage)
        self.dribbles = faults.dribble is not None
        self.pauses = self.dribbles or self.damage.stepSize < _NEVER
