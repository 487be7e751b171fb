"""The report in a real browser: no error, nothing fetched, fit for a phone, usable by keyboard."""

import json
import pathlib
import shutil

import pytest

from sktvae.inspection import report
from tests.inspection.conftest import visits

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    if not (shutil.which(CHROMIUM) and pathlib.Path(DRIVER).exists()):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def told():
    """A report with every section: long and strange names, copies, a lost category, a holdout."""
    name = "a_column_with_a_name_that_has_no_place_at_which_it_could_be_broken_over_two_lines" * 2
    real, synthetic, holdout = (visits(300, i).rename(columns={"dose": name}) for i in range(3))
    synthetic.iloc[:20] = real.iloc[:20]
    synthetic = synthetic[synthetic["ward"] != "<script>alert(1)</script>"]
    return report(real, synthetic, holdout, title="<img src=x onerror=alert(1)>", random_state=0)


def show(browser, path, width):
    """Open a page on a screen of this width, in pixels."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())


@pytest.fixture
def page(told, tmp_path):
    path = tmp_path / "report.html"
    told.to_html(path)
    return path


def fetched(browser):
    """The addresses that the browser has asked for."""
    entries = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        entry["params"]["request"]["url"]
        for entry in entries
        if entry["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("width", [375, 1280])
def test_no_error_nothing_fetched_and_no_sideways_scrolling(browser, page, width):
    browser.get_log("browser"), browser.get_log("performance")
    show(browser, page, width)
    for details in browser.find_elements("tag name", "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.get_log("browser") == []
    addresses = fetched(browser)
    assert addresses and all(a == page.as_uri() or a.startswith("data:") for a in addresses)
    size = browser.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert size[1] == pytest.approx(width, abs=20)
    assert size[0] <= size[1]
    images = browser.find_elements("tag name", "img")
    assert len(images) >= 9
    for image in images:
        assert image.get_attribute("alt")
        assert browser.execute_script("return arguments[0].naturalWidth", image) > 0  # it is drawn


def test_the_verdict_comes_first(browser, page, told):
    show(browser, page, 375)
    verdict = browser.find_element("css selector", "#verdict .headline")
    assert verdict.text == told.fidelity.headline
    assert verdict.location["y"] < 800  # on the first screen of a phone


def test_keys_reach_links_and_wide_tables(browser, page):
    from selenium.webdriver.common.keys import Keys

    show(browser, page, 375)
    reached = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        reached.append((active.tag_name, active.text[:20], active.get_attribute("role")))
        if active.tag_name == "body":
            break
    assert reached[0][:2] == ("a", "Skip to the verdict")
    assert sum(tag == "a" for tag, *_ in reached) >= 7
    assert sum(role == "region" for *_, role in reached) >= 4


def test_text_stands_out_from_its_background(browser, page):
    """A contrast of at least 4.5, as WCAG 2 asks for, in light and in dark mode."""
    emulate = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulate)
    show(browser, page, 1280)
    contrasts = browser.execute_script(
        """
        const channels = (c) => c.match(/[\\d.]+/g).map(Number);
        const luminance = (c) => channels(c).slice(0, 3)
          .map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const background = (e) => {
          for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor;
            if (channels(c)[3] !== 0) return c;
          }
          return "rgb(0, 0, 0)";
        };
        return [...document.querySelectorAll("p, li, th, td, small, summary, a, .badge")]
          .map((e) => [luminance(getComputedStyle(e).color), luminance(background(e)), e.className])
          .map(([a, b, name]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), name]);
        """
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(contrasts) > 100
    assert min(contrasts)[0] >= 4.5, min(contrasts)
