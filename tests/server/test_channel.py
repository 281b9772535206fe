"""
A stream as lines of bounded length.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from echofactory.server.workers.channel import MAX_LINE_SIZE, Lines


def test_a_line_that_is_too_long() -> None:
    """It is left out, in whatever pieces it comes, and the next line is not."""
    for step in (1000, MAX_LINE_SIZE, 1 << 20):
        stream = (
            b"one\n" + b"x" * (MAX_LINE_SIZE + 1) + b"\n" + b"y" * MAX_LINE_SIZE + b"\nlast"
        )
        lines = Lines()
        found = []
        for begin in range(0, len(stream), step):
            found += lines.feed(stream[begin : begin + step])
        assert found == [b"one", b"y" * MAX_LINE_SIZE]
        assert lines.skipped == 1
        assert lines.feed(b"\n") == [b"last"]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=10).map(lambda data: data + b"\n")), st.integers(1, 20))
def test_pieces_do_not_matter(parts: list[bytes], step: int) -> None:
    """The lines are those of the stream, wherever it is cut."""
    stream = b"".join(parts)
    lines = Lines()
    found = []
    for begin in range(0, len(stream), step):
        found += lines.feed(stream[begin : begin + step])
    assert found == stream.split(b"\n")[:-1]
