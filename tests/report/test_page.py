"""
The page of results, in a real browser, from its file.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium, needsBrowser
from runs import MS, drawnRun, failedRun, searchedRun
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from echofactory.report.compare import Run
from echofactory.report.page import page
from echofactory.report.palette import COLOURS, DARK_COLOURS
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind

pytestmark = needsBrowser

LIMIT = 60.0
"""Seconds for which a test waits for the browser."""


class Page:
    """A page of results in a browser."""

    def __init__(self, browser: Chrome, folder: Path) -> None:
        self.browser = browser
        self._path = folder / "run.html"

    def open(self, *runs: Results, command: str = "") -> None:
        named = [Run(f"run{number}.json", results) for number, results in enumerate(runs, 1)]
        self._path.write_text(page(named, "1.2.3", command, [("--x", "1")] if command else []))
        self.browser.get(self._path.as_uri())

    def script(self, code: str, *arguments: object) -> Any:
        return self.browser.execute_script(code, *arguments)

    def until(self, reached: Callable[[], object]) -> None:
        WebDriverWait(self.browser, LIMIT, poll_frequency=0.02).until(lambda _: reached())

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return [" ".join(element.text.split()) for element in found]

    def chart(self, name: str, code: str) -> Any:
        """Evaluate code about a chart, which is C{u} there."""
        return self.script(
            "const u = charts.find((u) => u.root.closest('.chart').id === arguments[0]);"
            f" return {code}",
            f"chart-{name}",
        )

    def zoom(self, name: str) -> list[float]:
        """Return what part of the x axis a chart shows."""
        found: list[float] = self.chart(name, "[u.scales.x.min, u.scales.x.max]")
        return found

    def hover(self, name: str, x: float, y: float = 0) -> None:
        """Move the mouse to a place of a chart, as shares of its size from the middle."""
        over = self.find(f"#chart-{name} .u-over")
        self.script("arguments[0].scrollIntoView({block: 'center'})", over)
        size = over.size
        ActionChains(self.browser, duration=0).move_to_element_with_offset(
            over, int(x * size["width"]), int(y * size["height"])
        ).perform()

    def inked(self, name: str, colour: str) -> int:
        """Return how many pixels of a chart have about this colour."""
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        found: int = self.chart(
            name,
            "(() => { const { width, height } = u.ctx.canvas;"
            " const all = u.ctx.getImageData(0, 0, width, height).data; let found = 0;"
            " for (let i = 0; i < all.length; i += 4)"
            f" if (all[i + 3] > 200 && Math.abs(all[i] - {red}) < 16"
            f" && Math.abs(all[i + 1] - {green}) < 16 && Math.abs(all[i + 2] - {blue}) < 16)"
            " found++; return found; })()",
        )
        return found

    def complaints(self) -> list[str]:
        return [each["message"] for each in self.browser.get_log("browser")]

    def fetched(self) -> list[str]:
        """Return the addresses that were asked for since the last call."""
        found = []
        for each in self.browser.get_log("performance"):
            message = json.loads(each["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def emulate(self, command: str, **arguments: object) -> None:
        self.browser.execute_cdp_cmd(f"Emulation.{command}", arguments)

    def colours(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.emulate("setEmulatedMedia", features=[feature])

    def phone(self) -> None:
        self.emulate(
            "setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def shown(browser: Chrome, tmp_path: Path) -> Iterator[Page]:
    shown = Page(browser, tmp_path)
    yield shown
    browser.get("about:blank")
    shown.complaints()
    shown.fetched()
    shown.emulate("setEmulatedMedia", features=[])
    shown.emulate("clearDeviceMetricsOverride")


def test_what_is_on_it(shown: Page) -> None:
    """Verdict, target, date, command and figures first; then the charts; no complaint."""
    shown.open(drawnRun([100] * 4), command="python -m echofactory.client x 7")
    assert shown.texts("h1") == ["ok: tcp:192.0.2.7:7"]
    (about,) = shown.texts(".about")
    assert about.startswith("2026-01-02 03:04:05 UTC, 2 connections")
    assert about.endswith("python -m echofactory.client x 7")
    assert shown.texts(".chart h2") == [
        "Response time over time",
        "Messages per second",
        "Latency by percentile",
        "Open connections",
    ]
    assert shown.texts(".figures tbody th")[:2] == ["min", "p50"]
    assert shown.complaints() == []


def test_nothing_is_fetched(shown: Page) -> None:
    """The file itself is all."""
    shown.fetched()
    shown.open(drawnRun([100] * 4))
    assert [re.sub(".*/", "", url) for url in shown.fetched()] == ["run.html"]


def test_the_policy_refuses_everything_else(shown: Page) -> None:
    """A script or a style that somebody got into the page does nothing."""
    shown.open(drawnRun([100] * 4))
    shown.script(
        "const s = document.createElement('script'); s.textContent = 'window.evil = 1';"
        " document.body.append(s);"
        " const p = document.createElement('p'); p.innerHTML ="
        " '<img src=x onerror=\"window.evil = 2\">'; document.body.append(p);"
    )
    assert shown.script("return window.evil") is None
    said = " ".join(shown.complaints())
    assert "Content Security Policy" in said


def test_text_of_others_is_no_markup(shown: Page) -> None:
    """In the tables, the title and the data of the charts."""
    evil = "</script><script>window.evil = 1</script><!--<b>&amp;"
    results = drawnRun([100] * 4, target=f"unix:/{evil}")
    results.connectionFailed(ConnectionFailure(1, evil, FailureKind.RESET, evil))
    results.completed = 1
    shown.open(results, drawnRun([100] * 4, target=evil), command=evil)
    assert shown.script("return window.evil") is None
    assert evil in shown.find(".about").text
    assert shown.complaints() == []
    shown.open(results, command=evil)
    assert shown.find("h1").text == f"failed: unix:/{evil}"
    assert shown.browser.title == f"failed: unix:/{evil}"
    assert len(shown.texts(".chart")) == 5


def test_hover_tells_the_values(shown: Page) -> None:
    """Of the interval in which the mouse is, with units."""
    shown.open(drawnRun([100, 300, 100, 100]))
    # A third of the first half: from 1 to 2 s.
    shown.hover("rate", -0.17)
    assert shown.texts("#chart-rate .at") == ["1 s to 2 s"]
    assert shown.texts("#chart-rate .legend b") == ["300/s", "100/s"]
    # The other charts over time follow.
    assert shown.texts("#chart-response .at") == ["1 s to 2 s"]
    assert shown.texts("#chart-response .legend b") == ["5.00 ms", "5.00 ms"]


def test_hover_tells_percentiles(shown: Page) -> None:
    """The latencies at the percentile under the mouse."""
    shown.open(drawnRun([1000] * 4))
    shown.hover("latency", 0.499)
    (at,) = shown.texts("#chart-latency .at")
    assert at.startswith("p99.98")
    values = shown.texts("#chart-latency .legend b")
    assert values[:3] == ["150 ms", "5.00 ms", "1.0 µs"]


def test_a_drag_zooms_every_chart_over_time(shown: Page) -> None:
    """And a double click shows the whole again."""
    shown.open(drawnRun([100] * 8))
    assert shown.zoom("rate") == [0, 8]
    shown.hover("rate", -0.25)
    ActionChains(shown.browser, duration=0).click_and_hold().move_by_offset(
        200, 0
    ).release().perform()
    begin, end = shown.zoom("rate")
    assert 1.5 < begin < 2.5
    assert begin < end < 6
    assert shown.zoom("response") == shown.zoom("open") == [begin, end]
    assert shown.zoom("latency") != [begin, end]
    shown.hover("rate", 0)
    ActionChains(shown.browser, duration=0).double_click().perform()
    assert shown.zoom("rate") == shown.zoom("response") == [0, 8]


def test_buttons_zoom(shown: Page) -> None:
    """For phones, where a drag scrolls."""
    shown.open(drawnRun([100] * 8))
    zoomIn, zoomOut, whole = shown.browser.find_elements(
        By.CSS_SELECTOR, "#chart-latency .zoom button"
    )
    before = shown.zoom("latency")
    assert not zoomOut.is_enabled()
    assert not whole.is_enabled()
    zoomIn.click()
    low, high = shown.zoom("latency")
    assert before[0] < low < high < before[1]
    zoomOut.click()
    assert shown.zoom("latency") == pytest.approx(before)
    zoomIn.click()
    whole.click()
    assert shown.zoom("latency") == pytest.approx(before)


def test_a_line_off_by_mouse(shown: Page) -> None:
    """It is gone from the picture, and comes back."""
    shown.open(drawnRun([100] * 4))
    button = shown.find("#chart-latency .legend button")
    assert shown.inked("latency", COLOURS[0]) > 50
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    shown.until(lambda: shown.inked("latency", COLOURS[0]) == 0)
    button.click()
    shown.until(lambda: shown.inked("latency", COLOURS[0]) > 50)


def test_a_line_off_by_keyboard(shown: Page) -> None:
    """Tab reaches it, Space and Enter turn it."""
    shown.open(drawnRun([100] * 4))
    shown.find("#chart-rate .plot").click()
    shown.find("#chart-rate .plot").send_keys(Keys.TAB)
    focused = shown.browser.switch_to.active_element
    assert focused.text.startswith("achieved")
    focused.send_keys(Keys.SPACE)
    shown.until(lambda: shown.chart("rate", "u.series[1].show") is False)
    focused.send_keys(Keys.ENTER)
    shown.until(lambda: shown.chart("rate", "u.series[1].show") is True)


def test_values_and_zoom_by_keyboard(shown: Page) -> None:
    """Arrows move, plus and minus zoom, zero shows the whole."""
    shown.open(drawnRun([100, 200, 300, 400]))
    plot = shown.find("#chart-rate .plot")
    plot.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    assert shown.texts("#chart-rate .at") == ["1 s to 2 s"]
    assert shown.texts("#chart-rate .legend b")[0] == "200/s"
    plot.send_keys(Keys.ARROW_LEFT)
    assert shown.texts("#chart-rate .at") == ["0 s to 1 s"]
    plot.send_keys(Keys.END)
    assert shown.texts("#chart-rate .at") == ["3 s to 4 s"]
    plot.send_keys("+")
    assert shown.zoom("rate") == [2, 4]
    plot.send_keys("0")
    assert shown.zoom("rate") == [0, 4]


def test_dark_plots_on_a_dark_page(shown: Page) -> None:
    """Also if the setting changes while the page is open."""
    shown.colours("light")
    shown.open(drawnRun([100] * 4))
    assert shown.inked("latency", COLOURS[0]) > 50
    shown.colours("dark")
    shown.until(lambda: shown.inked("latency", DARK_COLOURS[0]) > 50)
    assert shown.inked("latency", COLOURS[0]) == 0
    paper = shown.script("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(20, 25, 30)"


@pytest.mark.parametrize(
    "runs",
    [
        [drawnRun([1000] * 4, target=f"unix:/{'a' * 90}")],
        [failedRun([100] * 4)],
        [searchedRun()],
        [drawnRun([1000] * 4)] * 4,
    ],
    ids=["run", "failed", "search", "comparison"],
)
def test_on_a_phone(shown: Page, runs: list[Results]) -> None:
    """390 pixels are enough: nothing is wider, also inside what could scroll."""
    shown.phone()
    shown.open(*runs, command=f"python -m echofactory.client {'b' * 200}")
    assert shown.script("return document.documentElement.scrollWidth") == 390
    assert (
        shown.script(
            "return [...document.querySelectorAll('.scroll, .plot, .legend, pre, td')]"
            ".filter((each) => each.scrollWidth > each.clientWidth + 1)"
            ".map((each) => each.className + each.textContent)"
        )
        == []
    )
    assert shown.complaints() == []


def test_it_follows_the_width_of_the_window(shown: Page) -> None:
    """A phone that is turned gets wider charts."""
    shown.phone()
    shown.open(drawnRun([100] * 4))
    before = shown.chart("rate", "u.width")
    shown.emulate("clearDeviceMetricsOverride")
    shown.until(lambda: shown.chart("rate", "u.width") > before + 300)


def test_a_partial_interval(shown: Page) -> None:
    """It is marked, told of, and does not stretch the scale."""
    shown.open(drawnRun([100, 100, 0, 500], lastNs=20 * MS))
    assert shown.chart("rate", "u.scales.y.max") == pytest.approx(110)
    shown.find("#chart-rate .plot").send_keys(Keys.END)
    assert shown.texts("#chart-rate .at") == ["3 s to 3.02 s (partial interval)"]
    assert shown.texts("#chart-rate .legend b")[0] == "25,000/s"


def test_a_schedule_that_lasts_longer_than_the_run(shown: Page) -> None:
    """All charts over time are as long, and none is zoomed."""
    results = failedRun([100] * 4)
    results.scheduledNs *= 3
    shown.open(results)
    assert shown.chart("response", "u.scales.x.max") == shown.chart("rate", "u.scales.x.max")
    whole = shown.script(
        "return [...document.querySelectorAll('.zoom button:last-child')]"
        ".map((each) => each.disabled)"
    )
    assert whole == [True] * len(whole)


def test_a_search(shown: Page) -> None:
    """What it tried, as a chart and as a table; and the goals."""
    shown.open(searchedRun())
    assert shown.texts(".chart h2")[0] == "Response time at each rate tried"
    table = shown.texts(".figures")[-1]
    # With the percentiles of the goals, and the reason.
    assert table.startswith("messages/s achieved p50 p99 max goals")
    assert "150 ms broken: p99<20ms 200 200" in table
    assert shown.texts("#chart-steps .legend button") == ["p50", "p99", "max", "goals broken"]
    # The scale reaches to the goal.
    assert shown.chart("steps", "u.scales.y.max") > 20 * MS


def test_failures(shown: Page) -> None:
    """A chart of its own."""
    shown.open(failedRun([100] * 4))
    shown.find("#chart-failures .plot").send_keys(Keys.END)
    assert shown.texts("#chart-failures .legend b") == ["1"]


def test_a_comparison(shown: Page) -> None:
    """Better and worse in words and in colour; the lines of each run in one chart."""
    shown.open(drawnRun([100] * 6), drawnRun([100] * 6, responseNs=60 * MS))
    assert shown.texts("h1") == ["Comparison of 2 runs"]
    worse = shown.find(".compared .worse")
    assert worse.text == "× 12 worse"
    assert worse.value_of_css_property("color") != shown.find("body").value_of_css_property(
        "color"
    )
    assert shown.texts("#chart-response .legend button") == [
        "run1.json: p50",
        "run1.json: p99",
        "run2.json: p50",
        "run2.json: p99",
    ]
    shown.hover("response", 0.1)
    assert shown.texts("#chart-response .legend b")[::2] == ["5.00 ms", "60.0 ms"]


def test_runs_of_other_intervals(shown: Page) -> None:
    """Each line has the value of its own interval at the mouse."""
    other = drawnRun([100, 300], rate=None)
    # From 0 to 1.5 s, and from 1.5 to 3 s.
    other.intervals = [
        replace(each, endNs=each.endNs * 3 // 2, lengthNs=each.lengthNs * 3 // 2)
        for each in other.intervals
    ]
    shown.open(drawnRun([100, 200, 300, 400], rate=None), other)
    # At 1.2 s, and at 1.8 s.
    shown.hover("rate", -0.2)
    assert shown.texts("#chart-rate .legend b") == ["200/s", "67/s"]
    shown.hover("rate", -0.05)
    assert shown.texts("#chart-rate .legend b") == ["200/s", "200/s"]


def test_nothing_came_back(shown: Page) -> None:
    """A run without a reading has a page, too."""
    results = drawnRun([1])
    shown.open(Results(target="x", workload=results.workload, requested=1))
    assert shown.texts(".chart") == []
    assert shown.complaints() == []
