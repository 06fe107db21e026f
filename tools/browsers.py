"""The browsers for tests and tools, if they are installed."""

import shutil

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the first takes half the CPU


def find_browser() -> str | None:
    """Return the path of a browser that Playwright can drive."""
    return next(filter(None, map(shutil.which, _NAMES)), None)
