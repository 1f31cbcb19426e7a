"""The page as its readers have it: opened in Chromium, clicked, typed into and looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from report_builder import FALSE_ALARM, MISSED, PERFECT

from slicemill.config import ReportConfig
from slicemill.pipelines import report

#: A Chromium to test with, if it is not on the path.
OTHER_BROWSER = "SLICEMILL_TEST_BROWSER"
DESKTOP, PHONE = (1280, 900), (390, 844)
LOOKS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")]

Open = Callable[..., Page]

pytestmark = pytest.mark.browser


# Of a module, not of the session: while it is open, this thread runs an event loop, which others trip over.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = (os.environ.get(OTHER_BROWSER), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"no Chromium found: run scripts/browser.sh as root, or name one in {OTHER_BROWSER}")
    with sync_playwright() as playwright:
        # The sandbox does not start for root.
        chromium = playwright.chromium.launch(executable_path=found, chromium_sandbox=os.geteuid() != 0)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(homes, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("browser")
    scans = (PERFECT, MISSED, FALSE_ALARM)
    report.run(ReportConfig(str(out), homes.lake, homes.run, homes.scores, scan=scans), None)
    return (out / "index.html").as_uri()


@pytest.fixture
def opened(browser, address) -> Iterator[Open]:
    """Open the page at a size and in a colour scheme; at the end nothing may have gone wrong in it."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def open_page(size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Page:
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith("data:")} == {address}


def scans(page: Page) -> list[str]:
    """First cells of the rows that are shown of the table of scans."""
    return page.locator("#table-scans tbody tr:visible th").all_inner_texts()


def viewer(page: Page, scan_id: str) -> Locator:
    return page.locator(".viewer", has_text=scan_id)


def display(scan: Locator, kind: str) -> str:
    """How an outline is displayed."""
    line = scan.locator(f"path.{kind}.{kind}-line")
    return line.evaluate("(line) => getComputedStyle(line).display")


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_axe_finds_nothing_serious(opened, size, scheme):
    found = Axe().run(opened(size, scheme)).response
    serious = [
        (rule["id"], [node["target"] for node in rule["nodes"]])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert len(found["passes"]) > 10


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_is_never_wider_than_the_window(opened, size):
    page = opened(size)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_picture_is_drawn(opened, scheme):
    page = opened(scheme=scheme)
    assert page.locator("img").count() > 10
    # Pictures further down are decoded when they are asked for.
    assert page.evaluate(
        "Promise.all([...document.images].map((image) => image.decode().then(() => image.naturalWidth)))"
    )
    drawn = page.evaluate("[...document.images].map((image) => image.currentSrc.length)")
    assert min(drawn) > 1000


def test_a_dark_page_has_dark_figures(opened):
    light, dark = (
        opened(scheme=scheme).evaluate("[...document.images].map((image) => image.currentSrc)")
        for scheme in ("light", "dark")
    )
    assert all(a != b for a, b in zip(light, dark, strict=True))


def test_typing_into_the_search_filters_the_scans(opened):
    page = opened()
    field = page.get_by_role("searchbox")
    assert scans(page) == [MISSED, FALSE_ALARM, PERFECT]
    field.press_sequentially("test_aa 1.000")
    assert scans(page) == [PERFECT]
    assert page.locator("[data-found=scans]").inner_text() == "1 of 3"
    field.fill("no such scan")
    assert scans(page) == []
    field.fill("")
    assert len(scans(page)) == 3


def test_a_columns_head_sorts_up_and_down(opened):
    page = opened()
    head = page.locator("#table-scans thead th", has_text="IoU")
    head.get_by_role("button").click()
    assert scans(page) == [MISSED, FALSE_ALARM, PERFECT]
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert scans(page) == [PERFECT, FALSE_ALARM, MISSED]
    assert head.get_attribute("aria-sort") == "descending"
    page.get_by_role("button", name="HD95").click()
    # A missing number comes before all numbers.
    assert scans(page)[0] == MISSED
    assert head.get_attribute("aria-sort") is None


def test_arrow_keys_and_slider_leaf_through_a_scan(opened):
    page = opened()
    scan = viewer(page, FALSE_ALARM)
    words, slider = scan.locator(".frame-words"), scan.get_by_role("slider")
    truth = scan.locator("path.truth.truth-line")
    assert words.inner_text() == "slice 4, predicted 16 px, true 16 px, Dice 1.000"
    assert truth.get_attribute("d")
    slider.press("ArrowLeft")
    assert words.inner_text().startswith("slice 3, predicted 0 px, true 0 px")
    assert not truth.get_attribute("d")
    assert scan.locator(".window").get_attribute("viewBox") == "64 0 32 32"
    assert slider.get_attribute("aria-valuetext") == "slice 3"
    slider.fill("0")
    assert words.inner_text().startswith("slice 1, predicted 4 px")
    slider.press("ArrowDown")
    assert words.inner_text().startswith("slice 1,")
    slider.press("ArrowUp")
    assert words.inner_text().startswith("slice 2,")
    assert viewer(page, PERFECT).locator(".frame-words").inner_text().startswith("slice 4,")


def test_a_click_on_the_picture_takes_the_keys_there(opened):
    page = opened()
    scan = viewer(page, PERFECT)
    scan.locator("> svg").click()
    page.keyboard.press("ArrowLeft")
    assert scan.locator(".frame-words").inner_text().startswith("slice 3,")


def test_channel_and_outlines_can_be_chosen(opened):
    page = opened()
    scan = viewer(page, PERFECT)
    sheets = scan.locator(".sheet")
    shown = [sheets.nth(place).is_visible() for place in range(3)]
    assert shown == [False, True, False]
    scan.get_by_label("Channel").select_option("post-contrast")
    assert [sheets.nth(place).is_visible() for place in range(3)] == [False, False, True]
    scan.get_by_label("truth", exact=True).uncheck()
    assert [display(scan, kind) for kind in ("truth", "predicted")] == ["none", "inline"]
    scan.get_by_label("prediction", exact=True).uncheck()
    assert [display(scan, kind) for kind in ("truth", "predicted")] == ["none", "none"]


def test_colours_over_the_slices_can_be_chosen(opened):
    page = opened()
    scan = viewer(page, PERFECT)
    layers, choice = scan.locator(".layer"), scan.get_by_label("Colours")

    def visible() -> list[bool]:
        return [layers.nth(place).is_visible() for place in range(2)]

    assert visible() == [False, False]
    choice.select_option("probability of tumour")
    assert visible() == [True, False]
    choice.select_option("uncertainty")
    assert visible() == [False, True]
    # The slice stays below the colours.
    assert scan.locator(".sheet").nth(1).is_visible()
    choice.select_option("none")
    assert visible() == [False, False]


def test_a_scans_name_in_the_table_leads_to_its_page(opened):
    page = opened()
    page.get_by_role("link", name=MISSED).first.click()
    title = page.locator(":target figcaption").inner_text()
    assert title.startswith(MISSED)
