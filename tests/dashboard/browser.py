"""A real browser before a real `hpcnas serve`, for tests. Waits for what is to be seen, and never for a time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from demand import absent, package
from patience import GUARD

TOKEN = "a-token-of-these-tests"
MILLISECONDS = 1000 * GUARD


def chromium() -> str:
    """The browser's command."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    absent("no Chromium here: on Debian, `apt-get install chromium` brings it", "HPCNAS_DEMAND_CHROMIUM")


@contextmanager
def started() -> Iterator[Any]:
    """A headless browser of playwright."""
    path, api = chromium(), package("playwright.sync_api")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@contextmanager
def served(*runs: Path, token: str = TOKEN, port: int = 0) -> Iterator[str]:
    """`hpcnas serve` for these folders, as long as the block lasts; gives its address, without the token."""
    command = [sys.executable, "-m", "hpcnas.command", "serve", *map(str, runs), "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"HPCNAS_SERVE_TOKEN": token}
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.fullmatch(r"(http://127\.0\.0\.1:\d+/)\?token=\S+\n", line):
                yield found[1]
                return
        raise AssertionError("hpcnas serve ended at once")
    finally:
        process.kill()
        process.communicate()


class Visitor:
    """A page in a browser, and what the browser complained of."""

    def __init__(self, browser: Any, address: str, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.address = address
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        context.set_default_timeout(MILLISECONDS)
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        self.page.on("request", lambda request: self._asked(request.url))
        self.elsewhere: list[str] = []

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "Failed to load resource" not in text:  # told apart by their status
            self.complaints.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.elsewhere.append(url)

    def open(self, *, token: str | None = TOKEN, **state: object) -> Any:
        """The page at a state of its address."""
        fragment = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in state.items())
        query = "" if token is None else f"?token={token}"
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}{query}" + (f"#{fragment}" if fragment else ""))
        return self.page

    def close(self) -> None:
        """Fails where the browser complained of anything, or asked anybody else."""
        self.page.context.close()
        assert self.complaints == [] and self.elsewhere == []

    def until(self, expression: str, argument: Any = None) -> Any:
        """Waits until a JavaScript expression, or a function of the argument, gives something true; gives that."""
        return self.page.wait_for_function(expression, arg=argument, timeout=MILLISECONDS).json_value()

    def says(self, selector: str, words: str) -> None:
        """Waits until an element has these words in it."""
        self.until(
            "([selector, words]) => (document.querySelector(selector)?.textContent ?? '').includes(words)",
            [selector, words],
        )

    def drawn(self, name: str) -> None:
        """Waits until the picture of that name has its points."""
        self.until(f"""() => document.querySelectorAll('[data-plot="{name}"] .scatterlayer .trace').length > 0""")

    def point(self, name: str, id: int) -> tuple[float, float]:
        """Where the middle of an individual's point stands in a picture."""
        found = self.until(
            """([name, id]) => {
                const canvas = document.querySelector(`[data-plot="${name}"] .js-plotly-plot`);
                if (!canvas?._fullLayout) return null;
                canvas.scrollIntoView({block: "center"});
                const {xaxis, yaxis} = canvas._fullLayout, box = canvas.getBoundingClientRect();
                for (const trace of canvas.data) {
                    const n = (trace.customdata ?? []).indexOf(id);
                    if (n >= 0) return [box.x + xaxis._offset + xaxis.d2p(trace.x[n]),
                                        box.y + yaxis._offset + yaxis.d2p(trace.y[n])];
                }
                return null;
            }""",
            [name, id],
        )
        return float(found[0]), float(found[1])


def violations(page: Any) -> list[str]:
    """What axe finds wrong with the page as it stands, a line for each rule and element."""
    axe = package("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:150]}" for rule in found for node in rule["nodes"]]
