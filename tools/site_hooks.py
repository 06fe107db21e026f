"""What MkDocs asks of us: pages that are made from the code, and a look at what comes out.

The commands' page comes from what `--help` is made of, the presets' from their files. CONTRIBUTING and CHANGELOG lie
beside the README and are pages here.
"""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from site_pages import GENERATED

_EXTERNAL_RESOURCE = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^>]*>")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for path, written in GENERATED.items():
        files.append(File.generated(config, path, content=written()))
    return files


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Raises `PluginError` for a page that would make a reader's browser ask another host for something."""
    if found := _EXTERNAL_RESOURCE.search(output):
        raise PluginError(f"{page.file.src_uri}: loads from elsewhere: {found[0]}")
    return output
