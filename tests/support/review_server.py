"""Starts `gemma-captioner review` as a terminal does, and drives a browser with the keyboard only."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.support.command import ForkServer, SpawnedProcess
from tools.browsers import find_browser

expect.set_options(timeout=30_000)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's chromium. Without it, skip the test; fail if GEMMA_CAPTIONER_REQUIRE_BROWSER=1."""
    path = find_browser()
    if path is None:
        if os.environ.get("GEMMA_CAPTIONER_REQUIRE_BROWSER") == "1":
            pytest.fail("GEMMA_CAPTIONER_REQUIRE_BROWSER=1, but chromium is not installed")
        pytest.skip("requires chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Address(str):
    """The address that the command prints, with the pid of the server."""

    pid: int


@contextmanager
def serving(
    folder: Path, *options: str, cache: Path, port: int | None = None, fork_server: ForkServer | None = None
) -> Iterator[Address]:
    """Start the review server. fork_server: forks the server; None starts a new Python process."""
    words = ["review", str(folder), "--no-open", "--port", str(port or free_port()), *options]
    variables = {"XDG_CACHE_HOME": str(cache), "HF_HUB_OFFLINE": "1"}
    cache.mkdir(exist_ok=True)
    server = fork_server.start(words, cache, variables) if fork_server else SpawnedProcess(words, cache, variables)
    try:
        while not (found := re.search(r"^(http\S+).*\n", server.err, re.MULTILINE)):
            assert server.poll() is None, server.err
            time.sleep(0.01)
        address = Address(found[1])
        address.pid = server.pid
        _wait_for(address)
        yield address
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    assert "Traceback" not in server.err, server.err


def _wait_for(address: str) -> None:
    [port] = re.findall(r":(\d+)/", address)
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"no server answers at {address}")


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class KeyboardUser:
    """A user with only a keyboard. screen: options of the browser's context, such as `PHONE`."""

    def __init__(self, browser: Browser, address: Address, **screen: Any) -> None:
        self.address = address
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, **screen})
        self.page: Page = self.context.new_page()
        self.page_errors: list[str] = []
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        self.page.goto(address)
        expect(self.counts).to_contain_text("shown")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def write(self, text: str) -> None:
        """Replace the text in the edit box."""
        expect(self.box).to_be_editable()  # the page shows the name a moment before the caption
        self.press("e", "Control+a")
        self.page.keyboard.type(text)

    def enter(self, selector: str) -> None:
        """Wait for a button and press Enter on it."""
        button = self.find(selector).first
        expect(button).to_be_visible()
        button.focus()
        self.press("Enter")

    def choose(self, label: str, option: str) -> None:
        """Choose from a drop-down list with the arrow keys."""
        self.page.get_by_role("combobox", name=label).focus()
        self.press("Enter")
        items = self.find(".q-menu .q-item")
        expect(items.first).to_be_visible()
        texts = [text.partition(" (")[0] for text in items.all_inner_texts()]  # "refusal (1)"
        at = [n for n in range(len(texts)) if "--focused" in (items.nth(n).get_attribute("class") or "")]
        self.press(*["ArrowDown"] * ((texts.index(option) - (at or [-1])[0]) % len(texts)), "Enter")
        expect(items).to_have_count(0)

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def counts(self) -> Locator:
        return self.find(".counts")

    @property
    def box(self) -> Locator:
        return self.find(".caption-editor")

    def is_at(self, name: str) -> None:
        expect(self.find(".detail .name")).to_have_text(name)

    def close(self) -> None:
        self.context.close()
        assert self.page_errors == []
