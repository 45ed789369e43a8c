"""What axe-core finds against a page in headless Chromium, as WCAG's users of keyboards and screen readers would."""

from __future__ import annotations

from importlib import resources
from typing import Any

GRAVE = ("serious", "critical")
ALL_OF_WCAG = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}"
RUN = """
const done = arguments[arguments.length - 1], left = arguments[0];
axe.run({exclude: left}, %s).then(found => done(found.violations.flatMap(rule => rule.nodes.map(node => ({
  impact: node.impact, rule: rule.id, at: node.target.join(' '), html: node.html.slice(0, 160),
  why: node.failureSummary,
})))), error => done([{impact: 'critical', rule: String(error), at: '', html: '', why: ''}]));
"""


def set_view(browser: Any, width: int, theme: str = "light", **media: Any) -> None:
    """Give the browser a window so wide, and its user a theme, or whatever else of `Emulation.setEmulatedMedia`."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media or {"features": features})


def grave(browser: Any, *left_out: str) -> list[str]:
    """List serious and critical findings of the page that is open, each as rule, place and reason.

    Args:
        browser: with the page.
        left_out: selectors of what is not ours.
    """
    script = (resources.files("selenium_axe_python") / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    browser.execute_script("if (!window.axe) {" + script + "}")
    found = browser.execute_async_script(RUN % ALL_OF_WCAG, [[selector] for selector in left_out])
    return [
        f"{each['rule']} at {each['at']}: {each['why']} {each['html']}" for each in found if each["impact"] in GRAVE
    ]
