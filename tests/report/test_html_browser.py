"""The page in a headless Chromium: drawn, silent, asking nobody, within a phone's width, in light and in dark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g4diag.report.html import render
from tests.report import chromium
from tests.report.chromium import Chromium
from tests.report.test_html import inspected

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason="no chromium on this machine")
PHONE, DESKTOP = (390, 844), (1100, 900)
INK = "getComputedStyle(document.querySelector('.xtick text')).fill"
HOVER = "document.querySelector('#table-0 .hoverlayer').textContent"
DRAWN = "document.querySelectorAll('.chart .main-svg').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "x.html"
    path.write_text(render(inspected()), encoding="utf-8")
    return path


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_drawn_silent_and_within_the_width(browser: Chromium, page: Path, size: tuple[int, int]) -> None:
    browser.open(page, *size)
    assert _soon(lambda: browser.evaluate(DRAWN) >= 3), "every chart has drawn"
    for is_dark in (False, True):
        browser.prefer(is_dark=is_dark)
        assert browser.evaluate("document.scrollingElement.scrollWidth") <= size[0]
        paper = _rgb(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert (max(paper) < 64) is is_dark
        assert _soon(lambda dark=is_dark: (min(_rgb(browser.evaluate(INK))) > 190) is dark), "the charts follow"
    assert browser.requests() == [page.as_uri()] and not browser.complaints()
    _a_cell_speaks_when_pointed_at(browser)


def _a_cell_speaks_when_pointed_at(browser: Chromium) -> None:
    browser.evaluate("document.getElementById('table-0').scrollIntoView({block: 'center'})")
    box = "document.querySelector('#table-0 .heatmaplayer').getBoundingClientRect()"
    left, top, width, height = browser.evaluate(f"(b => [b.x, b.y, b.width, b.height])({box})")
    # Columns 57..63 are drawn and 60..62 are live: column 60 is in the middle.
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=left + width / 2, y=top + height / 2)
    assert _soon(lambda: browser.evaluate(HOVER))
    said = browser.evaluate(HOVER)
    assert "past the end" in said and "owner: r7" in said


def _soon(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it holds in the end: the page draws when it finds the time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_without_scripts_the_words_remain(browser: Chromium, page: Path) -> None:
    browser.open(page, *PHONE, scripts=False)
    tree = browser.send("DOMSnapshot.captureSnapshot", computedStyles=[])["strings"]
    text = " ".join(tree)
    assert "past the last of 154 pages" in text and "...>>>" in text and "wrong numbering" in text
    assert browser.requests() == [page.as_uri()]


def test_the_checks_bite(browser: Chromium, page: Path, tmp_path: Path) -> None:
    """A script that the policy does not name, a request, and a box too wide are all seen."""
    spoilt = tmp_path / "spoilt.html"
    words = page.read_text(encoding="utf-8").partition("<script")[0]
    extra = "<script>alert(1)</script><img src='file:///x.png'><p style='width:2000px'>wide</p></body></html>"
    spoilt.write_text(words + extra, encoding="utf-8")
    browser.open(spoilt, *PHONE)
    assert len(browser.complaints()) >= 2 and browser.evaluate("document.scrollingElement.scrollWidth") > PHONE[0]


def _rgb(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text[text.index("(") + 1 : -1].split(",")[:3])
