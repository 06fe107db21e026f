"""MkDocs hooks: add the generated pages (see site_pages.py) and check every page for external resources."""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from site_pages import GENERATED

_EXTERNAL_RESOURCE = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^>]*>")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, generate in GENERATED.items():
        files.append(File.generated(config, path, content=generate()))
    return files


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Raise `PluginError` if the page loads a resource from another host."""
    if found := _EXTERNAL_RESOURCE.search(output):
        raise PluginError(f"{page.file.src_uri}: it loads an external resource: {found[0]}")
    return output
