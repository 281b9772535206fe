"""
The status page, in a real browser.
"""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.request import urlopen

import pytest
from browsers import chromium, needsBrowser
from programs import CLIENT, LIMIT, SUPPORT, TWISTD, multiecho, running, serves, withStatus
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

pytestmark = needsBrowser


FAKE_TIME = """
(() => {
  let now = 0, next = 1;
  const timers = new Map();
  window.setTimeout = (call, ms = 0) => { timers.set(next, [now + ms, call]); return next++; };
  window.clearTimeout = (number) => timers.delete(number);
  performance.now = () => now;
  window.advance = (ms) => {
    now += ms;
    for (const [number, [at, call]] of [...timers])
      if (at <= now) { timers.delete(number); call(); }
  };
  // How long it is until something is due, and whether that is but the next request.
  window.left = () => Math.min(...[...timers.values()].map(([at]) => at)) - now;
  window.resting = () => [...timers.values()].some(([, call]) => call.name === "watch");
})();
"""
"""Gives a page a fake clock, which stands still until a test advances it."""


class Page:
    """A browser's page, which goes by a fake clock, and what is on it."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def open(self, port: int) -> None:
        self.browser.get(f"http://127.0.0.1:{port}/")
        self.until(lambda: self.tile("Uptime"))

    def until(self, reached: Callable[[], object]) -> None:
        """Wait until C{reached} returns a true value."""
        WebDriverWait(self.browser, LIMIT, poll_frequency=0.02).until(lambda _: reached())

    def advance(self, ms: int) -> None:
        """Let so much time pass, for the page."""
        self.script("advance(arguments[0])", ms)

    def look(self) -> None:
        """Have the page ask once more, and wait for what comes of it."""
        self.until(lambda: self.script("return resting()"))
        self.advance(1000)
        self.until(lambda: self.script("return resting()"))

    def lookUntil(self, reached: Callable[[], object]) -> None:
        """Have the page ask, again and again, until C{reached} returns a true value."""

        def lookedAndReached() -> object:
            self.look()
            return reached()

        self.until(lookedAndReached)

    def script(self, code: str, *arguments: object) -> Any:
        return self.browser.execute_script(code, *arguments)

    def text(self, selector: str) -> str:
        """Return what a reader sees of the first such element, in one line."""
        return " ".join(self.browser.find_element(By.CSS_SELECTOR, selector).text.split())

    def tile(self, name: str) -> str:
        return self.tiles().get(name, "")

    def tiles(self) -> dict[str, str]:
        found: list[list[str]] = self.script(
            "return [...document.querySelectorAll('#about div, #tiles div')]"
            ".map(t => [...t.children].map(c => c.innerText))"
        )
        return {name: " ".join(value.split()) for name, value in found}

    def table(self, caption: str) -> list[list[str]]:
        """Return the rows of a table."""
        tables: list[list[Any]] = self.script(
            "return [...document.querySelectorAll('table')].map(t => ["
            "t.caption.querySelector('b').innerText,"
            " [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.innerText))])"
        )
        return next((rows for name, rows in tables if name == caption), [])

    def totals(self) -> dict[str, str]:
        """Return what was counted since the server was started."""
        (row,) = self.table("Totals")
        return dict(zip(("accepted", "chunks", "received", "sent"), row, strict=True))

    def gone(self) -> bool:
        return bool(self.script("return !document.getElementById('banner').hidden"))

    def complaints(self) -> list[str]:
        """Return what the browser has complained of since this was asked last."""
        return [each["message"] for each in self.browser.get_log("browser")]

    def emulate(self, command: str, **arguments: object) -> None:
        self.browser.execute_cdp_cmd(f"Emulation.{command}", arguments)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("browser"), width=1100) as browser:
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FAKE_TIME})
        yield browser


@pytest.fixture
def page(browser: Chrome) -> Iterator[Page]:
    page = Page(browser)
    yield page
    # Nothing of this test's page is there for the next.
    browser.get("about:blank")
    page.complaints()
    page.emulate("setEmulatedMedia", features=[])
    page.emulate("clearDeviceMetricsOverride")


@contextmanager
def strange() -> Iterator[int]:
    """Serve the status of what is not there, on the port that this yields."""
    program = SUPPORT / "strange_status.py"
    with running([sys.executable, str(program)]) as serving:
        yield int(serving.waitFor(r"listening on (\d+)")[1])


@pytest.mark.seconds
def test_it_shows_a_load(page: Page) -> None:
    """Numbers, with units; charts, in words too; and nothing to complain of."""
    with withStatus() as (_, echo, port):
        page.open(port)
        assert page.tile("Open connections") == "0"
        assert page.text("#state") == "serving"
        assert page.table("Peers by bytes received") == [["No open connections."]]
        load = ["--size", "1k", "--rate", "2k", "--duration", "1h", "--quiet"]
        with running([*CLIENT, "127.0.0.1", str(echo), "25", *load]):
            page.lookUntil(lambda: page.tile("Open connections") == "25")
            assert page.tile("Listening on") == f"127.0.0.1:{echo}"
            assert page.tile("Host") == socket.gethostname()
            page.lookUntil(lambda: re.fullmatch(r"[\d.,]+ %", page.tile("Processor")))
            assert re.fullmatch(r"[\d.,]+ MiB", page.tile("Memory"))
            assert re.fullmatch(r"\d+ of [\d,]+", page.tile("Open descriptors"))
            page.lookUntil(
                lambda: re.fullmatch(r"[\d.,]+ MiB", page.tile("Received, last minute"))
            )
            page.lookUntil(lambda: re.match("[1-9]", page.text("figure:nth-child(2) .level")))
            said = [
                element.get_attribute("aria-label") or ""
                for element in page.browser.find_elements(By.CSS_SELECTOR, "svg")
            ]
            assert re.match(r"Open connections: now 25; .* from \d+ to 25$", said[0])
            assert re.match(r"Chunks received: now [\d,]+/s; in the last 5 min", said[1])
            assert re.match(r"Bytes received: now [\d.,]+.[KM]iB/s; ", said[2])
            ((host, open_, received),) = page.table("Peers by bytes received")
            assert (host, open_) == ("127.0.0.1", "25")
            assert re.fullmatch(r"[\d.,]+.[KMG]iB", received)
            # A line needs two readings.
            strokes = (
                "return [...document.querySelectorAll('.line')].map(l => l.getAttribute('d'))"
            )
            page.lookUntil(lambda: page.script(strokes))
            assert "NaN" not in "".join(page.script(strokes))
        page.lookUntil(lambda: page.table("Connections closed")[0][2] != "0")
        assert page.complaints() == []


def test_it_says_when_the_server_is_gone_and_when_it_is_back(page: Page) -> None:
    """Within two seconds, killed or stopped by a signal; and both recover."""
    with withStatus() as (server, _, port):
        page.open(port)
        page.look()
        assert not page.gone()
        server.process.kill()
        server.process.wait(LIMIT)
        page.look()
        assert page.gone()
        assert page.text("#banner").startswith("No answer since ")
        # What stands still is not called now.
        assert re.fullmatch(r"At \d\d:\d\d:\d\d", page.text("#now"))
        assert page.text("#lately").startswith("5 minutes before ")
        assert page.text("svg text:last-of-type") == page.text("#now").removeprefix("At ")
        assert colour(page) == "down"
        assert page.text("#state") == "no answer"
        assert page.browser.title == "no answer: multiecho"
    with withStatus(status=f"{port}") as (server, _, _):
        page.lookUntil(lambda: not page.gone())
        assert page.text("#state") == "serving"
        assert page.text("#now") == "Now"
        server.process.send_signal(signal.SIGSTOP)
        page.advance(1000)
        assert page.script("return left()") == 700
        page.advance(699)
        assert not page.gone()
        page.advance(1)
        page.until(page.gone)
        server.process.send_signal(signal.SIGCONT)
        page.lookUntil(lambda: not page.gone())


@contextmanager
def proxied(behind: int, sent: list[bytes], line: Event | None = None) -> Iterator[int]:
    """
    Run a proxy of a status, and yield its port.

    @param sent: what it answers instead of what is asked of the status, if anything.
    @param line: an answer begins at once, and comes to its end when this is set.
    """

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with urlopen(f"http://127.0.0.1:{behind}{self.path}", timeout=LIMIT) as answer:
                body, kind = answer.read(), answer.headers["Content-Type"]
            if sent and self.path.endswith(".json"):
                body, kind = sent[0], "application/json"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            # The browser waits for some of it.
            self.wfile.write(body[:1])
            if line is not None:
                line.wait(LIMIT)
            # The page may have given up.
            with suppress(ConnectionError):
                self.wfile.write(body[1:])

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        serving = Thread(target=proxy.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield proxy.server_address[1]
        finally:
            if line is not None:
                line.set()
            proxy.shutdown()
            serving.join()


def test_a_slow_line_is_no_lost_server(page: Page) -> None:
    """What has begun to come is waited for, for five seconds, and shown when it is there."""
    line = Event()
    line.set()
    sent: list[bytes] = []
    with strange() as behind, proxied(behind, sent, line) as port:
        page.open(port)
        page.look()
        assert page.text("#state") == "serving"
        with urlopen(f"http://127.0.0.1:{port}/view.json", timeout=LIMIT) as answer:
            view = json.load(answer)
        sent.append(json.dumps(view | {"state": "late"}).encode())
        line.clear()
        page.advance(1000)
        page.until(lambda: page.script("return left()") == 5000)
        page.advance(4999)
        assert page.text("#state") == "serving"
        line.set()
        page.until(lambda: page.text("#state") == "late")
        page.until(lambda: page.script("return resting()"))
        line.clear()
        page.advance(1000)
        page.until(lambda: page.script("return left()") == 5000)
        page.advance(5000)
        page.until(page.gone)


def test_another_program_on_the_port(page: Page) -> None:
    """Or a proxy, that answers with something else: no news of the server."""
    other: list[bytes] = []
    with strange() as behind, proxied(behind, other) as port:
        page.open(port)
        for body in (b'{"status": "UP"}', b'{"tiles": [{}]}', b"[]", b"null", b"<html>"):
            page.look()
            assert page.text("#state") == "serving"
            other[:] = [body]
            page.look()
            assert page.gone()
            assert page.text("#state") == "no answer"
            other.clear()
        page.look()
        assert not page.gone()


def test_figures_that_are_small(page: Page) -> None:
    """Three digits of what is below 1; at the lines of a chart, what tells them apart."""
    with strange() as port:
        page.open(port)
        shown = page.script(
            "return [0.0431, 0.5, 0.04, 0, 1.04, 12.34, 999.9].map(n => text(n, 'ms'))"
        )
        assert [each.replace("\N{NO-BREAK SPACE}", " ") for each in shown] == [
            "0.0431 ms", "0.5 ms", "0.04 ms", "0 ms", "1 ms", "12.3 ms", "1,000 ms",
        ]  # fmt: skip
        for highest, unit, expected in (
            (0.04, "ms", "0.00 ms,0.01 ms,0.02 ms,0.03 ms,0.04 ms"),
            (0.0007, "ms", "0.0000 ms,0.0002 ms,0.0004 ms,0.0006 ms,0.0008 ms"),
            (3.5, "/s", "0/s,1/s,2/s,3/s,4/s"),
            (1.5, "", "0.0,0.5,1.0,1.5"),
            (2048, "B/s", "0 B/s,512 B/s,1 KiB/s,1.5 KiB/s,2 KiB/s"),
            (3 << 30, "B", "0 B,1 GiB,2 GiB,3 GiB"),
        ):
            labels = page.script(
                "let figure = document.querySelector('figure');"
                " drawChart(figure, {unit: arguments[1], points: [[0, arguments[0]]]});"
                " return [...figure.querySelectorAll('.value')].map(t => t.textContent)",
                highest,
                unit,
            )
            found = ",".join(labels).replace("\N{NO-BREAK SPACE}", " ")
            assert found == expected


@pytest.mark.parametrize(
    ("points", "pieces", "dots", "level"),
    [
        ([[-2, 1], [-1, 2], [0, 3]], 1, 0, "3 ms"),
        ([[-4, 1], [-3, 2], [-2, None], [-1, 3], [0, 4]], 2, 0, "4 ms"),
        ([[-40, 1], [-39, 2], [-1, 3], [0, 4]], 2, 0, "4 ms"),
        ([[-3, 1], [-2, 2], [-1, 3], [0, None]], 1, 0, "\N{EN DASH}"),
        ([[-2, 5], [-1, None], [0, 6]], 0, 2, "6 ms"),
        ([[-2, None], [-1, None], [0, None]], 0, 0, "\N{EN DASH}"),
        ([], 0, 0, "\N{EN DASH}"),
    ],
)
def test_nothing_is_drawn_where_nothing_was_measured(
    page: Page, points: list[list[float | None]], pieces: int, dots: int, level: str
) -> None:
    """Nor where samples are missing; a sample alone is a dot."""
    with strange() as port:
        page.open(port)
        found = page.script(
            "let figure = document.querySelector('figure');"
            " drawChart(figure, {title: 'Time', unit: 'ms', points: arguments[0]});"
            " let pieces = each => (figure.querySelector(each)?.getAttribute('d')"
            " .split('M').length ?? 1) - 1;"
            " return [pieces('.line'), pieces('.area'), figure.querySelectorAll('.dot').length,"
            " figure.querySelector('.level').innerText,"
            " figure.querySelector('svg').getAttribute('aria-label'), figure.innerHTML]",
            points,
        )
        assert found[:3] == [pieces, pieces, dots]
        assert found[3].replace("\N{NO-BREAK SPACE}", " ") == level
        measured = any(value is not None for _, value in points)
        assert ("no value in the last 5 minutes" in found[4]) is not measured
        assert not re.search("NaN|null|Infinity", found[5])


DRAW_EXAMPLE = """
paused = true;
drawnAt = new Date(2026, 0, 2, 12, 4, 30);
// The last sample is 7, the one before 8, and so on; nothing was measured at -100.
let points = [...Array(300).keys()].map(i => [i - 299, i === 199 ? null : 306 - i]);
let charts = drawn.charts.map((each, i) =>
  ({title: `Chart ${i}`, unit: i ? "ms" : "", points: points.map(([t, value]) => [t, value])}));
drawn = {...drawn, charts};
drawAgain();
"""
"""Draws charts whose values and times are known."""


@contextmanager
def example(page: Page) -> Iterator[list[WebElement]]:
    """Show charts whose values and times are known, and yield them."""
    with strange() as port:
        page.open(port)
        page.script(DRAW_EXAMPLE)
        yield page.browser.find_elements(By.CSS_SELECTOR, "figure svg")


def levels(page: Page) -> list[str]:
    """Return the value that each chart shows above it."""
    found: list[str] = page.script(
        "return [...document.querySelectorAll('.level')].map(each => each.innerText)"
    )
    return [each.replace("\N{NO-BREAK SPACE}", " ") for each in found]


def pointers(page: Page) -> int:
    """Return how many charts show the reader's moment."""
    return int(page.script("return document.querySelectorAll('.pointer line').length"))


def test_the_time_axis_has_minutes(page: Page) -> None:
    """Full minutes of the clock, where they belong; none hides the end of the axis."""
    with example(page):
        drawn = page.script(
            "let figure = document.querySelector('figure');"
            " let {left, right} = drawings.get(figure);"
            " return [...figure.querySelectorAll('.time')].map(t => [t.textContent,"
            " (t.getAttribute('x') - left) / (right - left) * 300])"
        )
        *ticks, (end, endS) = drawn
        assert [words for words, _ in ticks] == ["12:00", "12:01", "12:02", "12:03"]
        assert [s for _, s in ticks] == [pytest.approx(30 + 60 * n, abs=1) for n in range(4)]
        assert (end, endS) == ("12:04:30", 300)
        assert page.script(
            "let end = 0; return [...document.querySelectorAll('figure:first-child .time')]"
            ".every(t => { let before = end, box = t.getBoundingClientRect();"
            " end = box.right; return before <= box.left; })"
        )
        # The line of 12:04 is there, without words.
        assert (
            page.script(
                "return [...document.querySelectorAll('figure:first-child .grid')]"
                ".filter(line => line.getAttribute('x1') === line.getAttribute('x2')).length"
            )
            == 5
        )


def test_the_value_that_the_pointer_is_at(page: Page) -> None:
    """In every chart, with its time; the present again when the pointer leaves."""
    with example(page) as (first, *_):
        assert levels(page) == ["7", "7 ms", "7 ms", "7 ms"]
        # From the middle of the chart to the place of 60 s before its end.
        place = page.script(
            "let svg = document.querySelector('svg'), {x} = drawings.get(svg.parentElement);"
            " return x(-60) - svg.clientWidth / 2"
        )
        ActionChains(page.browser).move_to_element_with_offset(first, round(place), 0).perform()
        shown = levels(page)
        # A pixel is almost a second.
        found = re.fullmatch(r"(\d+) at 12:03:(\d\d)", shown[0])
        assert found is not None
        value, seconds = map(int, found.groups())
        assert seconds in (29, 30, 31)
        assert value == 7 + 90 - seconds
        assert shown[1:] == [f"{value} ms at 12:03:{seconds}"] * 3
        assert pointers(page) == 4
        placed = page.script(
            "let svg = document.querySelector('svg'), {x, y} = drawings.get(svg.parentElement),"
            " dot = svg.querySelector('.pointer circle');"
            " return [dot.getAttribute('cx') - x(arguments[0] - 90),"
            " dot.getAttribute('cy') - y(arguments[1])]",
            seconds,
            value,
        )
        assert placed == [pytest.approx(0, abs=0.1)] * 2
        # Another second's figures do not take it away.
        page.script("drawAgain()")
        assert levels(page) == shown
        ActionChains(page.browser).move_to_element(
            page.browser.find_element(By.ID, "title")
        ).perform()
        assert levels(page) == ["7", "7 ms", "7 ms", "7 ms"]
        assert pointers(page) == 0
        assert page.complaints() == []


def test_the_values_by_keyboard(page: Page) -> None:
    """A second or half a minute further by a key; it ends at the ends, and by Escape."""
    with example(page) as (first, *_):
        page.script("arguments[0].focus()", first)
        for key, expected in (
            (Keys.ARROW_LEFT, "7 at 12:04:30"),
            (Keys.ARROW_LEFT, "8 at 12:04:29"),
            (Keys.ARROW_RIGHT, "7 at 12:04:30"),
            (Keys.ARROW_RIGHT, "7 at 12:04:30"),
            (Keys.PAGE_UP, "37 at 12:04:00"),
            (Keys.HOME, "306 at 11:59:31"),
            (Keys.END, "7 at 12:04:30"),
        ):
            first.send_keys(key)
            assert levels(page)[0] == expected
            spoken = str(first.get_attribute("aria-valuetext"))
            assert spoken.replace("\N{NO-BREAK SPACE}", " ") == expected
        assert first.get_attribute("aria-valuenow") == "0"
        first.send_keys(Keys.ESCAPE)
        assert levels(page)[0] == "7"
        assert first.get_attribute("aria-valuetext") is None
        first.send_keys(Keys.HOME)
        assert pointers(page) == 4
        first.send_keys(Keys.TAB)
        assert pointers(page) == 0


def test_a_moment_at_which_nothing_was_measured(page: Page) -> None:
    """A dash, and no dot."""
    with example(page):
        page.script("pointAt(-100)")
        assert levels(page)[0] == "\N{EN DASH} at 12:02:50"
        assert pointers(page) == 4
        assert page.script("return document.querySelector('.pointer circle')") is None


def test_a_finger(page: Page) -> None:
    """What it touches stays shown when it is lifted, until it touches something else."""
    with example(page) as (first, *_):
        narrow(page)
        touch = PointerInput("touch", "finger")
        actions = ActionBuilder(page.browser, mouse=touch)
        actions.pointer_action.move_to(first).pointer_down().pointer_up()
        actions.perform()
        assert " at 12:0" in levels(page)[0]
        actions = ActionBuilder(page.browser, mouse=touch)
        title = page.browser.find_element(By.ID, "title")
        actions.pointer_action.move_to(title).pointer_down().pointer_up()
        actions.perform()
        assert levels(page)[0] == "7"


def test_an_outage(page: Page) -> None:
    """It is red, not amber, its response times have no level, and it ends."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (server, echo):
        connections = ("127.0.0.1", str(echo), "3", "--rate", "60", "--status", "0")
        with running([*TWISTD, "multiecho-client", *connections]) as monitor:
            page.open(int(monitor.waitFor(r"status page on 127.0.0.1:(\d+)")[1]))
            titles = [page.text(f"figure:nth-child({number}) h3") for number in range(1, 7)]
            assert titles[3:5] == ["Response time, p50", "Response time, p99"]

            def levels() -> list[str]:
                return [page.text(f"figure:nth-child({number}) .level") for number in (1, 4, 5)]

            page.lookUntil(lambda: page.text("#state") == "all up" and levels()[0] == "3")
            assert colour(page) == "well"
            assert re.fullmatch(r"[\d.,]+ ms", page.tile("Response p99, last minute"))
            server.process.kill()
            page.lookUntil(lambda: page.text("#state") == "0 of 3 up")
            assert colour(page) == "down"
            page.lookUntil(lambda: levels() == ["0", "\N{EN DASH}", "\N{EN DASH}"])
            narrow(page)
            with multiecho("--trace", "none", "127.0.0.1", str(echo)):
                page.lookUntil(lambda: page.text("#state") == "all up")
                page.lookUntil(lambda: levels()[1] != "\N{EN DASH}")
            assert page.complaints() == []


def colour(page: Page) -> str:
    """Return what the colour of the state stands for."""
    found: str = page.script(
        "let hue = text => { let probe = document.createElement('i'); probe.style.color = text;"
        " document.body.append(probe); let found = getComputedStyle(probe).color;"
        " probe.remove(); return found; };"
        " let shown = getComputedStyle(document.getElementById('state')).color;"
        " return ['well', 'impaired', 'down'].find(each => hue(`var(--${each})`) === shown)"
    )
    return found


def test_four_charts_are_two_rows_of_two(page: Page) -> None:
    """None is left over in a row of its own; the times of all are above each other."""
    with strange() as port:
        page.open(port)
        placed = page.script(
            "let one = {title: 'x', unit: '', points: [[-1, 1], [0, 2]]};"
            " paused = true; draw({...drawn, charts: [one, one, {...one, unit: 'ms'}, one]});"
            " return [...document.querySelectorAll('figure')].map(f => ["
            " f.getBoundingClientRect().left, f.getBoundingClientRect().top,"
            " f.querySelector('.grid').getAttribute('x1')])"
        )
        (left, top, first), (right, *_), (_, below, _), _ = placed
        assert [each[:2] for each in placed] == [
            [left, top], [right, top], [left, below], [right, below],
        ]  # fmt: skip
        assert {each[2] for each in placed} == {first}


def test_it_says_that_the_server_drains(page: Page) -> None:
    """Not that it serves."""
    with withStatus("--drain", "1h") as (server, echo, port):
        page.open(port)
        with socket.create_connection(("127.0.0.1", echo), LIMIT) as held:
            held.sendall(b"x")
            assert held.recv(1) == b"x"
            server.process.send_signal(signal.SIGTERM)
            page.lookUntil(lambda: page.text("#state") == "draining")
            assert colour(page) == "impaired"
            assert not page.gone()
        page.lookUntil(page.gone)


@pytest.mark.seconds
def test_a_worker_that_is_killed_and_comes_back(page: Page) -> None:
    """It is down, and up again as another process; what was accepted stays counted."""
    with withStatus("--workers", "2") as (_, echo, port):
        page.open(port)
        page.lookUntil(lambda: [row[1] for row in page.table("Workers")] == ["up", "up"])
        assert serves(echo, 32)
        page.lookUntil(lambda: page.totals()["accepted"] == "32")
        pid = page.table("Workers")[0][2]
        os.kill(int(pid), signal.SIGKILL)
        page.lookUntil(lambda: page.table("Workers")[0][3] == "1")
        page.lookUntil(lambda: page.table("Workers")[0][1] == "up")
        assert page.table("Workers")[0][2] != pid
        assert page.totals()["accepted"] == "32"
        assert serves(echo, 32)
        page.lookUntil(lambda: page.totals()["accepted"] == "64")


def test_workers_and_names_that_peers_chose(page: Page) -> None:
    """What a peer is called is text; what is new to the page is shown all the same."""
    with strange() as port:
        page.open(port)
        page.until(lambda: page.table("Workers"))
        assert [row[:5] for row in page.table("Workers")] == [
            ["1", "up", "4711", "0", "1,234"],
            ["2", "down", "\N{EN DASH}", "3", "0"],
            ["3", "starting", "4713", "1", "0"],
        ]
        assert page.totals()["accepted"] == "12,345,678"
        assert page.totals()["received"] == "3\N{NO-BREAK SPACE}TiB"
        assert page.tile("Open connections") == "1,234 of 10,000"
        assert page.tile("Listening on") == (
            "[2001:db8:1111:2222:3333:4444:5555:6666]:7007, udp 192.0.2.1:7007, "
            "<img src=x onerror=\"document.title='pwned'\">"
        )
        assert page.table("Connections refused")[-1] == ["rain", "", "7"]
        hosts = [row[0] for row in page.table("Peers by bytes received")]
        assert hosts[0].startswith("<img src=x onerror=")
        assert hosts[2] == "UNIX socket"
        assert page.script("return document.images.length") == 0
        assert page.browser.title == "serving: multiecho"
        narrow(page)
        assert page.complaints() == []


def narrow(page: Page) -> None:
    """Make it as narrow as a phone, and check that all fits."""
    page.emulate(
        "setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
    )
    page.until(lambda: page.script("return innerWidth") == 390)
    assert page.script("return document.documentElement.scrollWidth") == 390
    # Drawn anew, and not past its place.
    page.until(
        lambda: page.script(
            "return [...document.querySelectorAll('svg')].every(s =>"
            " s.viewBox.baseVal.width == s.parentElement.clientWidth &&"
            " s.getBoundingClientRect().right <= 390)"
        )
    )


def test_a_phone_and_the_dark(page: Page) -> None:
    """Nothing to scroll sideways; a dark page with light text for who wants it."""
    with withStatus() as (_, _, port):
        page.open(port)
        narrow(page)
        for scheme, dark in (("light", False), ("dark", True)):
            page.emulate(
                "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
            )
            for property_, expected in (("backgroundColor", dark), ("color", not dark)):
                found = page.script(f"return getComputedStyle(document.body).{property_}")
                level = sum(map(int, re.findall(r"\d+", found)[:3])) / 3
                assert (level < 100) is expected, (scheme, property_, found)
        assert page.complaints() == []


def test_the_keyboard_and_a_screen_reader(page: Page) -> None:
    """All that can be used is reached in order, and seen to be; parts have names."""
    with withStatus() as (_, _, port):
        page.open(port)
        reached = []
        for _ in range(8):
            page.browser.switch_to.active_element.send_keys(Keys.TAB)
            reached.append(
                page.script(
                    "let reached = document.activeElement; return reached.innerText"
                    " ?? reached.getAttribute('aria-label').split(':')[0]"
                )
            )
            assert page.script(
                "let s = getComputedStyle(document.activeElement);"
                " return s.outlineStyle == 'solid' && parseFloat(s.outlineWidth) >= 2"
            )
        charts = ["Open connections", "Chunks received", "Bytes received", "Processor"]
        assert reached == ["Pause", *charts, "metrics", "health", "JSON"]

        assert page.script("return document.documentElement.lang") == "en"
        for landmark in ("header", "main", "footer", "nav[aria-label]"):
            assert page.browser.find_elements(By.CSS_SELECTOR, landmark)
        levels = page.script(
            "return [...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName).join(' ')"
        )
        assert levels == "H1 H2 H2 H3 H3 H3 H3 H2"
        (live,) = page.browser.find_elements(By.CSS_SELECTOR, "[role=status], [aria-live]")
        assert live.get_attribute("id") == "state"
        assert page.script(
            "return [...document.querySelectorAll('table')].every(t => t.caption.innerText"
            " && t.querySelector('thead th[scope=col]'))"
        )


def test_pause(page: Page) -> None:
    """The figures stand still until they may move again; a server that goes is still told."""
    with withStatus() as (server, _, port):
        page.open(port)
        page.browser.find_element(By.ID, "pause").send_keys(Keys.ENTER)
        assert page.text("#pause") == "Resume"
        assert re.fullmatch(r"At \d\d:\d\d:\d\d", page.text("#now"))
        before = page.tile("Uptime")
        asked = "return performance.getEntriesByType('resource').length"
        count = page.script(asked)
        page.look()
        page.look()
        assert page.script(asked) >= count + 2
        assert page.tile("Uptime") == before
        page.browser.find_element(By.ID, "pause").send_keys(Keys.ENTER)
        page.lookUntil(lambda: page.tile("Uptime") != before)
        assert page.text("#now") == "Now"
        server.process.kill()
        page.lookUntil(page.gone)
