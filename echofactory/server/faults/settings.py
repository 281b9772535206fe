"""
Misbehaving on purpose: what a faulty echo does to its bytes, and when it lets
them go.

Nothing here knows a transport, a clock or Twisted; times are seconds since the
server was made. All that is left to chance comes from a seed and the connection's
number, so that it can be had again.
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
"""Bytes: further than any stream goes."""


@dataclass(frozen=True)
class Stall:
    """
    C{lasts} seconds at the end of every C{every} in which nothing is sent.

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
                f"stall: {self.lasts:g} s is not less than the {self.every:g} s between two"
            )

    def after(self, time: float) -> float:
        """Return C{time}, or the end of the stall that it falls into."""
        end = (floor(time / self.every) + 1) * self.every
        return end if time >= end - self.lasts else time

    def __str__(self) -> str:
        return f"{_milliseconds(self.lasts)}/{_milliseconds(self.every)}"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """
    What a faulty echo does; as it stands, nothing.

    C{str} of it is what C{--fault} takes.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    delay: float = 0.0
    """Seconds that each chunk is held."""
    jitter: float = 0.0
    """Seconds that a chunk's delay may be longer or shorter, evenly; order is kept."""
    throttle: int | None = None
    """Bytes a second on a connection, at most."""
    dribble: int | None = None
    """Bytes in a write, at most; the reactor turns between two of them."""
    corrupt: float = 0.0
    """The chance of a byte to become another."""
    drop: float = 0.0
    """The chance of a byte to be left out."""
    repeat: float = 0.0
    """The chance of a byte to be sent twice."""
    truncate: int | None = None
    """Bytes after which a connection is closed, in order."""
    reset: float = 0.0
    """The chance of a connection to be reset when its first bytes come."""
    stall: Stall | None = None
    """When nothing is sent, on any connection."""
    refuse: float = 0.0
    """The chance of a connection to be closed at once."""

    def __post_init__(self) -> None:
        for name in ("delay", "jitter"):
            checkSeconds(name, getattr(self, name), zero=True)
        if self.jitter > self.delay:
            raise ValueError(
                f"jitter: {self.jitter:g} s is not from 0 s to the delay, which is"
                f" {self.delay:g} s: what is sent cannot be early"
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


DAMAGED_AT_ONCE = 1000
"""Bytes, on average. Each takes some 3 µs, in which nobody else is served."""


class Damage:
    """
    What becomes of a connection's bytes: some of them altered, left out or
    doubled, and the stream cut off.

    How the stream is cut into chunks makes no difference. Undamaged bytes cost
    next to nothing: what is drawn is how far it is to the next damaged one.

    @ivar atOnce: how many bytes to feed at a time, so that it does not take long.
    @ivar over: whether nothing comes out any more, for the stream was cut off.
    """

    def __init__(self, faults: Faults, random: Random) -> None:
        self._random = random
        # A byte that more than one of them meets is treated in this order.
        self._chances = {
            name: chance
            for name in ("corrupt", "repeat", "drop")
            if (chance := getattr(faults, name))
        }
        damaging = sum(self._chances.values())
        self.atOnce = int(min(DAMAGED_AT_ONCE / damaging, _NEVER)) if damaging else _NEVER
        # How many bytes have come, and the place in the stream that each is to meet.
        self._taken = 0
        self._next = {name: self._distance(chance) for name, chance in self._chances.items()}
        self._left = _NEVER if faults.truncate is None else faults.truncate
        self.over = False

    def _distance(self, chance: float) -> int:
        """Return how many bytes are spared before the next: geometrically distributed."""
        if chance == 1:
            return 0
        # One minus a number from 0 to less than 1, of which there is a logarithm.
        distance = log(1 - self._random.random()) / log1p(-chance)
        return int(min(distance, _NEVER))

    def feed(self, data: bytes) -> bytes:
        """Return what becomes of the stream's next bytes."""
        end = self._taken + len(data)
        if min(self._next.values(), default=_NEVER) < end:
            damaged = self._damaged(data, end)
        else:
            damaged = data
        self._taken = end
        damaged = damaged[: self._left]
        self._left -= len(damaged)
        self.over = not self._left
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
        """Return what becomes of one byte, and draw which the next will be."""
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
"""Seconds. What is throttled goes out in pieces that take so long."""

CATCH_UP = 0.05
"""Seconds that a throttled connection may be late and make up for it. More than
that is lost to it: after a wait, no burst."""

MOST_HELD = 1 << 20
"""Bytes held for a connection, more or less; one that has more owed is not read from."""

CHUNK_COST = 128
"""Bytes that a held chunk takes beside its own."""


class _Chunk(NamedTuple):
    due: float
    data: bytes


class Held:
    """
    What a connection has to send and does not send yet: one queue, in which each
    chunk has the time when it is due. It is damaged as it is taken, a little at a
    time.

    @ivar cost: bytes of memory, more or less; 0 if nothing is held.
    """

    def __init__(self, faults: Faults, random: Random, damage: Damage) -> None:
        self.cost = 0
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
        # How much of the first chunk has been damaged, what came of the last of that,
        # and how much of this has gone.
        self._fed = 0
        self._damaged = b""
        self._gone = 0
        # When the last chunk is due.
        self._lastDue = 0.0
        # When what is throttled may go on.
        self._freeAt = 0.0

    def put(self, data: bytes, now: float) -> None:
        """Hold another chunk, which is not empty."""
        due = now + self._delay
        if self._jitter:
            due += self._random.uniform(-self._jitter, self._jitter)
        self._lastDue = max(self._lastDue, due)
        self._queue.append(_Chunk(self._lastDue, data))
        self.cost += len(data) + CHUNK_COST

    def nextAt(self, now: float) -> float:
        """
        Return when the next piece may go; C{now} or before, if it may go now.
        Something must be held.
        """
        at = max(self._queue[0].due, self._freeAt)
        return at if self._stall is None else self._stall.after(max(at, now))

    def take(self, now: float) -> bytes:
        """
        Return what may go in one write, and hold it no longer; empty if nothing may,
        or if nothing is left of what might have gone.
        """
        if not self._queue or self.nextAt(now) > now:
            return b""
        due, data = self._queue[0]
        if self._gone == len(self._damaged):
            raw = data[self._fed : self._fed + self._damage.atOnce]
            self._fed += len(raw)
            self._damaged = self._damage.feed(raw)
            self._gone = 0
        piece = self._damaged[self._gone : self._gone + self._pieceSize]
        self._gone += len(piece)
        if self._gone == len(self._damaged):
            self._finish(data)
        if self._throttle is not None:
            since = max(self._freeAt, due, now - CATCH_UP)
            self._freeAt = since + len(piece) / self._throttle
        return piece

    def _finish(self, data: bytes) -> None:
        """All that was damaged of the first chunk, C{data}, has gone."""
        if self._damage.over:
            self._queue.clear()
            self.cost = 0
        elif self._fed == len(data):
            self._queue.popleft()
            self.cost -= len(data) + CHUNK_COST
            self._fed = 0


class Fate:
    """
    What is in store for one connection; the same for the same faults, seed and
    number.

    @ivar refused: whether it is closed at once.
    @ivar reset: whether it is reset when its first bytes come.
    @ivar damage: what becomes of its bytes.
    @ivar held: what it has to send.
    @ivar dribbles: whether the reactor turns between two writes, so that each goes out
        for itself.
    @ivar pauses: whether the reactor turns between two pieces, for one may take long.
    """

    def __init__(self, faults: Faults, seed: int, number: int) -> None:
        """
        @param number: the connection's, from 1.
        """
        random = Random(f"{seed} {number}")
        self.refused = random.random() < faults.refuse
        self.reset = random.random() < faults.reset
        # One of its own, for how many chunks there are is the network's affair.
        jitter = Random(random.random())
        self.damage = Damage(faults, random)
        self.held = Held(faults, jitter, self.damage)
        self.dribbles = faults.dribble is not None
        self.pauses = self.dribbles or self.damage.atOnce < _NEVER
