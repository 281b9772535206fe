"""
Which connections of the status port are open, and which give way.
"""

import os
from pathlib import Path

import pytest
from peers import openDescriptors
from twisted.internet.task import Clock

from echofactory.descriptors import SpareDescriptors
from echofactory.status import admission
from echofactory.status.admission import GRACE_S, Places


class Guest:
    """See L{admission.Guest}."""

    def __init__(self, places: "Places[Guest]") -> None:
        self.cuts = 0
        places.wait(self)

    def cut(self) -> None:
        self.cuts += 1


def placesFor(most: int) -> tuple["Places[Guest]", Clock]:
    clock = Clock()
    return Places[Guest](most, clock.seconds), clock


def test_while_there_is_a_free_place_nobody_is_displaced() -> None:
    """However long somebody waits."""
    places, clock = placesFor(2)
    first = Guest(places)
    clock.advance(1000)
    assert places.makeRoom()
    assert first.cuts == 0


def test_the_one_that_waits_longest_is_displaced() -> None:
    """One for each that comes."""
    places, clock = placesFor(3)
    guests = [Guest(places) for _ in range(3)]
    clock.advance(1)
    for displaced in (1, 2):
        assert places.makeRoom()
        guests.append(Guest(places))
        assert [guest.cuts for guest in guests[:3]] == [1] * displaced + [0] * (3 - displaced)
    assert len(places) == 3


def test_nobody_is_displaced_at_once() -> None:
    """A request may be on its way."""
    places, clock = placesFor(1)
    guest = Guest(places)
    clock.advance(GRACE_S / 2)
    assert not places.makeRoom()
    clock.advance(GRACE_S / 2)
    assert places.makeRoom()
    assert guest.cuts == 1


def test_who_is_served_is_not_displaced() -> None:
    """From when the answer is written, it waits anew: the answer may be on its way."""
    places, clock = placesFor(1)
    guest = Guest(places)
    places.serve(guest)
    clock.advance(1000)
    assert not places.makeRoom()
    places.wait(guest)
    assert not places.makeRoom()
    clock.advance(GRACE_S)
    assert places.makeRoom()


def test_a_place_is_free_when_its_connection_is_closed() -> None:
    """Served or not."""
    places, _ = placesFor(2)
    waiting, served = Guest(places), Guest(places)
    places.serve(served)
    assert not places.makeRoom()
    for guest in (waiting, served):
        places.leave(guest)
    assert len(places) == 0


def test_without_a_descriptor_connections_are_displaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They leave theirs for others."""
    monkeypatch.setattr(admission, "RESERVED", 0)
    places, clock = placesFor(100)
    guest = Guest(places)
    assert not places.admits()
    assert guest.cuts == 0
    clock.advance(GRACE_S)
    assert not places.admits()
    assert guest.cuts == 1


def test_spare_descriptors() -> None:
    """They are held, given, taken again, and released; then no more are taken."""
    before = openDescriptors()
    spares = SpareDescriptors(3)
    assert not spares
    spares.hold()
    assert openDescriptors() == before + 3
    spares.give(2)
    assert len(spares) == 1
    with Path(os.devnull).open() as taken:
        assert taken.fileno() > 0
        spares.fill()
        assert openDescriptors() == before + 4
    spares.release()
    spares.fill()
    assert openDescriptors() == before
