"""A report in headless Chromium: is anything cut, overlapping, empty or wider than the page?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.accessible import grave, set_view

SIZES = {"phone": 360, "desktop": 1280}
MEASURE = """
const wrong = [];
for (const svg of document.querySelectorAll('svg')) {
  const outer = svg.getBoundingClientRect();
  const name = svg.closest('figure').querySelector('h3').textContent;
  if (!(outer.width > 200 && outer.height > 40)) wrong.push(`${name}: empty`);
  const boxes = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim()).map(text => {
    const box = text.getBoundingClientRect();
    return {text: text.textContent, left: box.left, right: box.right, top: box.top, bottom: box.bottom};
  });
  for (const [i, box] of boxes.entries()) {
    if (box.left < outer.left - 1 || box.right > outer.right + 1 || box.top < outer.top - 1
        || box.bottom > outer.bottom + 1) wrong.push(`${name}: ${box.text} is cut`);
    for (const other of boxes.slice(i + 1)) {
      const width = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const height = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      if (width > 1 && height > 3) wrong.push(`${name}: ${box.text} is over ${other.text}`);
    }
  }
}
for (const image of document.images) if (!image.naturalWidth) wrong.push('an image is empty');
for (const box of document.querySelectorAll('.card, .chart, .warnings li, h1, h2, h3, pre'))
  if (box.scrollWidth > box.clientWidth + 1) wrong.push(`${box.textContent.slice(0, 40)} overflows`);
return {wrong, width: document.documentElement.scrollWidth, inner: innerWidth,
        ink: getComputedStyle(document.querySelector('svg text')).fill,
        page: getComputedStyle(document.body).backgroundColor, folded: document.querySelectorAll('details').length};
"""


@contextmanager
def headless(*switches: str, **capabilities: Any) -> Iterator[Any]:
    """Debian's Chromium without a screen; a skipped test where it is missing."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for name in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", *switches):
        options.add_argument(f"--{name}")
    for name, value in capabilities.items():
        options.set_capability(name, value)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless("hide-scrollbars") as driver:
        yield driver


def look(browser: Any, page: Path, width: int, **media: Any) -> dict[str, Any]:
    set_view(browser, width, **media)
    browser.get(page.as_uri())
    return browser.execute_script(MEASURE)


def require_legible(browser: Any, page: Path, size: str, theme: str) -> None:
    """Nothing is cut or overlaps, axe finds nothing grave, and the page's colours are the theme's."""
    found = look(browser, page, SIZES[size], features=[{"name": "prefers-color-scheme", "value": theme}])
    assert found["wrong"] == []
    assert found["width"] <= found["inner"]
    assert grave(browser) == []
    ink, paper = (sum(map(int, found[name][4:-1].split(","))) / 3 for name in ("ink", "page"))
    assert (ink < 80 < 200 < paper) if theme == "light" else (paper < 80 < 200 < ink)
