"""A headless Chromium and the finished report opened in it from the disk."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import require_program

WIDTHS = {"phone": (390, 844), "desktop": (1280, 800)}


@dataclass
class Browser:
    """A Chromium at one width, and what it was seen to do."""

    driver: Any
    report: Path

    def open(self) -> None:
        """Open the report anew and wait until its first page stands."""
        self.driver.get(self.report.as_uri())
        self.wait(lambda: self.js("return document.querySelectorAll('.polygate-answer').length > 0"))

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], object]) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 30).until(lambda _: condition())

    def errors(self) -> list[str]:
        """Severe messages of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> set[str]:
        """Addresses that were asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return {params["request"]["url"] for params in sent}

    def results(self) -> dict[str, dict[str, Any]]:
        """What the report holds: path → name, mime type, category."""
        found: dict[str, dict[str, Any]] = self.js(
            "return Object.fromEntries(Object.entries(results).map(([path, r]) => [path, {mime: r.mime_type}]))"
        )
        return found

    def table(self, name: str) -> list[dict[str, str]]:
        """A CSV table that the report holds."""
        uri: str = self.js(
            "return Object.entries(results).find(([path, _]) => path.endsWith('/' + arguments[0]))[1].data_uri", name
        )
        return list(csv.DictReader(io.StringIO(base64.b64decode(uri.partition(",")[2]).decode("utf-8"))))


@pytest.fixture(scope="module", params=WIDTHS)
def browser(request: pytest.FixtureRequest, report_html: Path) -> Iterator[Browser]:
    """Chromium at phone and at desktop width, network off."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = require_program("chromium", "chromium-browser", "google-chrome")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(require_program("chromedriver")))
    try:
        width, height = WIDTHS[request.param]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": request.param == "phone"}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield Browser(driver, report_html)
    finally:
        driver.quit()
