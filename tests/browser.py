"""Looks at TensorBoard in headless Chromium, for the tests of the board.

Both are from Debian's packages (`apt-get install chromium chromium-driver`), driven by selenium.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DEEP = """
function all(root, found) {
  for (const one of root.querySelectorAll('*')) {
    found.push(one);
    if (one.shadowRoot) all(one.shadowRoot, found);
  }
  return found;
}
"""
"""TensorBoard's older plugins are web components: nothing in their shadow roots is found by an ordinary query."""


def missing() -> str:
    """Why there is no browser here; empty if there is one."""
    if find_spec("selenium") is None:
        return "needs selenium: pip install selenium"
    if not (_program("chromium", "chromium-browser", "google-chrome") and shutil.which("chromedriver")):
        return "needs a browser: apt-get install chromium chromium-driver"
    return ""


def _program(*names: str) -> str | None:
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def tensorboard(folder: Path, *, timeout_s: float = 120) -> Iterator[str]:
    """Serve a folder of runs; gives the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder.name, "--port", str(port), "--host"]
    served = subprocess.Popen(
        [*command, "127.0.0.1", "--reload_interval", "1"],
        cwd=folder.parent,  # so that no page shows where the folder is
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + timeout_s
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/data/runs", timeout=5).read()
                break
            except OSError:
                if time.monotonic() > end or served.poll() is not None:
                    raise
                time.sleep(0.3)
        yield address
    finally:
        served.terminate()
        served.wait()


@contextmanager
def chromium(*, width: int = 1500, height: int = 1000) -> Iterator[Page]:
    """A window without a screen."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--enable-unsafe-swiftshader")  # the projector draws with WebGL
    options.add_argument(f"--window-size={width},{height}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(120)
    try:
        yield Page(driver)
    finally:
        driver.quit()


def squeezed(text: str) -> str:
    """Without spaces: TensorBoard writes many names as several elements."""
    return "".join(text.split())


class Page:
    """A page of TensorBoard."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Open an address anew, even if only what follows # differs."""
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")
        self.driver.get(address)

    def text(self) -> str:
        """Everything that is written on the page, that of web components too."""
        script = (
            DEEP
            + """
        const parts = [];
        for (const one of all(document, [])) {
          for (const node of one.childNodes) {
            if (node.nodeType === 3 && node.textContent.trim() && !['STYLE', 'SCRIPT'].includes(one.tagName)) {
              const box = one.getBoundingClientRect();
              if (box.width && box.height) parts.push(node.textContent.trim());
            }
          }
        }
        return parts.join('\\n');
        """
        )
        return str(self.driver.execute_script(script))

    def wait(self, *words: str, timeout_s: float = 90) -> str:
        """The page's text when it has all these words, whatever the spaces. Raises `AssertionError` with what is
        missing, and the text, if it never has.
        """
        end = time.monotonic() + timeout_s
        while absent := [word for word in words if squeezed(word) not in squeezed(text := self.text())]:
            assert time.monotonic() < end, f"no {absent} on the page, which says:\n{text[:4000]}"
            time.sleep(0.5)
        return text

    def count(self, selector: str) -> int:
        """Elements that a CSS selector finds, in web components too."""
        script = DEEP + "return all(document, []).filter(one => one.matches(arguments[0])).length;"
        return int(self.driver.execute_script(script, selector))

    def enter_frame(self, *, timeout_s: float = 90) -> None:
        """Look inside the page's only frame, or the one within it, from now on, until another page is opened."""
        end = time.monotonic() + timeout_s
        script = DEEP + "return all(document, []).filter(one => one.tagName === 'IFRAME');"
        while True:
            self.driver.switch_to.default_content()  # frames are replaced while the page loads
            depth = 0
            while frames := self.driver.execute_script(script):
                self.driver.switch_to.frame(frames[0])
                depth += 1
            if depth and self.text():
                return
            assert time.monotonic() < end, "no frame with a text on the page"
            time.sleep(0.5)

    def type(self, selector: str, text: str, *, number: int = 0) -> None:
        """Write into one of the visible fields that a selector finds."""
        script = (
            DEEP
            + """
        const field = all(document, []).filter(
          one => one.matches(arguments[0]) && one.getBoundingClientRect().width > 0)[arguments[2]];
        if (!field) return false;
        field.value = arguments[1];
        for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true, composed: true}));
        return true;
        """
        )
        assert self.driver.execute_script(script, selector, text, number), f"no field: {selector}"

    def picture(self, path: Path, *, settle_s: float = 2.0) -> None:
        """Write a screenshot when the page has come to rest, in few colours: some 50 KiB."""
        from PIL import Image

        time.sleep(settle_s)
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        taken.quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
