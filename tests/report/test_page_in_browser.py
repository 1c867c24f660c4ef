"""The page in headless Chromium: figures drawn, table usable, nothing on the console.

Screenshots are kept in the folder that BALMS_SEG_SCREENSHOTS names, by default output/screenshots.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_data, write_run

from balms_seg.commands.command_line import run_command

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("BALMS_SEG_SCREENSHOTS", ROOT / "output" / "screenshots"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two runs."""
    pytest.importorskip("vl_convert")
    folder = tmp_path_factory.mktemp("report")
    json_file, images = write_data(folder / "data")
    runs = [write_run(folder / "first"), write_run(folder / "second", confused=2)]
    (runs[1] / "meta_rates.csv").write_text(
        "class_id,name,group,training_images,training_instances,iteration,value\n"
        "0,cat,frequent,400,400,10,0.5\n3,eel,rare,2,2,10,0.9\n"
    )
    arguments = ["--ground-truth", str(json_file), "--images", str(images)]
    run_command("report", [*map(str, runs), *arguments])
    return runs[0] / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if found is None or driver is None:
        pytest.skip(f"needs chromedriver and one of {', '.join(BROWSERS)}; none is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    opened.set_script_timeout(120)
    yield opened
    opened.quit()


def open_page(browser: Any, page: Path, *, width: int, dark: bool) -> None:
    """Load it at a width and wait until every figure is drawn."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    browser.get_log("browser")  # forget the previous page's
    size = {"width": width, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": 900})
    browser.get(page.as_uri())
    # As high as the page: what lies far below the window is only drawn when it comes near.
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": 9000})
    browser.execute_async_script(
        "const done = arguments[0];"
        "const check = () => [...document.querySelectorAll('[data-figure]')]"
        ".every((e) => e.dataset.drawn) ? done() : setTimeout(check, 50); check();"
    )


# Pairs of neighbours on one line of an axis whose numbers touch.
COLLISIONS = """
return [...document.querySelectorAll('[data-figure] svg .role-axis-label')].flatMap((axis) => {
  const boxes = [...axis.querySelectorAll('text')]
    .filter((text) => text.textContent && getComputedStyle(text).opacity !== '0')
    .map((text) => ({ text: text.textContent, ...text.getBoundingClientRect().toJSON() }))
    .sort((one, other) => one.left - other.left);
  return boxes.slice(1).map((box, i) => [boxes[i], box])
    .filter(([one, other]) => Math.abs(one.top - other.top) < 3 && one.right > other.left)
    .map(([one, other]) => [one.text, other.text]);
});
"""


def take_screenshot(browser: Any, name: str, *, width: int) -> None:
    height = browser.execute_script("return document.body.scrollHeight")
    answer = browser.execute_cdp_cmd(
        "Page.captureScreenshot",
        {
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1},
        },
    )
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(answer["data"]))


def column(browser: Any, title: str) -> list[str]:
    """Cells of a column of the table of classes."""
    return browser.execute_script(
        "const heads = [...document.querySelectorAll('#classes thead th')];"
        "const i = heads.findIndex((head) => head.textContent === arguments[0]);"
        "return [...document.querySelectorAll('#classes tbody tr')]"
        ".map((row) => row.cells[i].textContent);",
        title,
    )


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [("report_desktop", 1200, False), ("report_phone", 390, False), ("report_dark", 1200, True)],
)
def test_every_figure_is_drawn_and_nothing_is_on_the_console(
    browser: Any, page: Path, name: str, width: int, dark: bool
) -> None:
    open_page(browser, page, width=width, dark=dark)
    figures = browser.execute_script(
        "return [...document.querySelectorAll('[data-figure]')].map((e) => ["
        "e.dataset.figure, e.querySelectorAll('svg .mark-rect path, svg .mark-symbol path, "
        "svg .mark-line path').length, e.querySelector('svg').getBoundingClientRect().width])"
    )
    expected = {"ap-by-group-segm", "ap-by-group-bbox", "frequency-and-ap", "fates-by-group"}
    expected |= {"tail-confusion-0", "tail-confusion-1", "learned-rates-1", "curve-total_loss"}
    expected |= {f"reliability-{group}" for group in ("all", "rare", "common", "frequent")}
    assert expected <= {figure for figure, _, _ in figures}
    assert [figure for figure, marks, size in figures if marks == 0 or size < 100] == []
    assert browser.execute_script(COLLISIONS) == []
    overflow = browser.execute_script("return document.documentElement.scrollWidth")
    assert overflow <= width
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background[4:-1].split(","))
    assert (brightness < 200) == dark
    take_screenshot(browser, name, width=width)
    assert browser.get_log("browser") == []


def test_the_table_of_classes_sorts_and_filters(browser: Any, page: Path) -> None:
    open_page(browser, page, width=1200, dark=False)
    heads = {
        head.text.split("\n")[0]: head
        for head in browser.find_elements("css selector", "#classes thead button")
    }
    assert column(browser, "class")[:2] == ["</script><b>axe", "eel"]  # lowest AP first
    heads["train images"].click()
    assert column(browser, "train images") == ["2", "4", "40", "400"]
    heads["train images"].click()
    assert column(browser, "train images") == ["400", "40", "4", "2"]
    heads["class"].click()
    assert column(browser, "class") == ["</script><b>axe", "bee", "cat", "eel"]

    browser.find_element("css selector", "[data-group-filter=rare]").click()
    assert column(browser, "class") == ["</script><b>axe", "eel"]
    search = browser.find_element("id", "class-search")
    search.send_keys("EEL")
    assert column(browser, "class") == ["eel"]
    assert browser.find_element("id", "class-count").text == "1 of 4 classes"
    search.clear()
    search.send_keys("no such class")
    assert column(browser, "class") == []


@pytest.mark.parametrize(("media", "width"), [("screen", 1200), ("print", 717)])
def test_the_table_of_classes_is_whole_with_long_names(
    browser: Any, page: Path, media: str, width: int
) -> None:
    """In a window of 1,200 px, and on A4, whose rows all stand there and whose cells are whole."""
    open_page(browser, page, width=width, dark=False)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    cut, num_wide = browser.execute_script(
        "const table = document.querySelector('#classes table');"
        "table.querySelectorAll('td.name').forEach((e) => { e.textContent = 'name_'.repeat(8); });"
        "const box = table.closest('.scroll');"
        "return [box.scrollWidth - box.clientWidth,"
        "[...table.querySelectorAll('td')].filter((e) => e.scrollWidth > e.clientWidth + 1).length]"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert (cut, num_wide) == (0, 0)


def test_every_table_is_whole_on_paper(browser: Any, page: Path) -> None:
    open_page(browser, page, width=717, dark=False)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((e) => e.querySelector('table'))"
        ".map((e) => [e.className, getComputedStyle(e).overflowY, getComputedStyle(e).maxHeight,"
        "e.scrollWidth - e.clientWidth])"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert any(name == "scroll table" for name, *_ in hidden)
    assert [row for row in hidden if row[1:] != ["visible", "none", 0]] == []


def test_details_of_the_table_follow_the_chosen_run(browser: Any, page: Path) -> None:
    open_page(browser, page, width=1200, dark=False)
    browser.find_element("css selector", "#classes thead button").click()
    assert column(browser, "confused")[0] == "6"
    browser.execute_script(
        "const choice = document.getElementById('class-run'); choice.value = '1';"
        "choice.dispatchEvent(new Event('change'))"
    )
    assert column(browser, "confused")[0] == "2"


def test_figures_follow_a_change_between_light_and_dark(browser: Any, page: Path) -> None:
    open_page(browser, page, width=1200, dark=False)
    color = (
        "return document.querySelector('[data-figure=fates-by-group] svg .mark-rect path')"
        ".getAttribute('fill')"
    )
    before = browser.execute_script(color)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_async_script(
        "const [before, done] = arguments; const check = () => (() => {" + color + "})() === before"
        " ? setTimeout(check, 50) : done(); check();",
        before,
    )
    assert browser.execute_script(color) != before
    assert browser.get_log("browser") == []
