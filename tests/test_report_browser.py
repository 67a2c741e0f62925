"""The page of `zeropoint report` in headless Chromium, of a phone's and of a desktop's width."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeropoint import report

DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow("a browser"),
    pytest.mark.skipif(
        DRIVER is None or importlib.util.find_spec("selenium") is None,
        reason="needs selenium, and chromedriver: apt-get install chromium-driver",
    ),
]

#: the smallest contrast of a text with what lies behind it, and that text
CONTRAST = """
const shine = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(v => v / 255).map(
        v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
let worst = [99, ""];
for (const each of document.querySelectorAll("main *")) {
    if (![...each.childNodes].some(node => node.nodeType == 3 && node.data.trim())) continue;
    let back = each;
    while (getComputedStyle(back).backgroundColor == "rgba(0, 0, 0, 0)") back = back.parentElement;
    const [a, b] = [getComputedStyle(each).color, getComputedStyle(back).backgroundColor].map(
        shine);
    const found = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (found < worst[0]) worst = [found, each.textContent];
}
return worst;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(3)
    layer = "model.layers.%d.self_attention_with_a_long_name.query_projection.weight"
    tensors = {layer % i: rng.standard_t(2, size=(48, 40)).astype(np.float32) for i in range(8)}
    tensors["outlier"] = np.where(np.arange(900) == 7, 1e6, rng.normal(size=900))
    tensors["nan"] = np.array([np.nan])
    np.savez(folder / f"{'model' * 20}.npz", **tensors)  # type: ignore[arg-type]
    report.write(folder / f"{'model' * 20}.npz", folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page(browser: Any, page: str, width: int, scheme: str, tmp_path: Path) -> None:
    dark = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [dark]})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 1000},
    )
    browser.get_log("performance")
    browser.get(page)
    assert browser.get_log("browser") == []
    asked = [each["message"] for each in browser.get_log("performance")]
    assert sum('"Network.requestWillBeSent"' in each for each in asked) == 1  # for the page alone
    overflow = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script(overflow) == 0
    worst, text = browser.execute_script(CONTRAST)
    assert worst >= 4.5, text
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[scheme]
    # a link opens the section that it leads to
    links = browser.find_elements("css selector", "th[scope=row] a")
    links[-1].click()
    section = browser.find_elements("css selector", "details")[len(links) - 1]
    assert section.get_attribute("open") is not None
    assert browser.execute_script(overflow) == 0
    browser.save_screenshot(str(tmp_path / "page.png"))
    assert (tmp_path / "page.png").stat().st_size > 10_000
