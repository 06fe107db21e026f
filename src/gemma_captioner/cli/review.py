"""`gemma-captioner review`: the page, on this machine or with a token for others."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from ..config.model import ServerSettings
from ..config.run import ClusterSettings
from ..config.settings import Settings
from ..errors import StartError, UsageError
from ..storage.filesystem import is_local
from ..text import printable
from .caption import CAPTION_OPTIONS, read_config
from .options import LocalPathOption, with_options
from .shell import app, err


@app.command
@with_options(*(options for options in CAPTION_OPTIONS if options.group not in (ServerSettings, ClusterSettings)))
def review(
    folder: Annotated[LocalPathOption, Parameter(help="The dataset.")],
    /,
    *,
    host: Annotated[
        str | None,
        Parameter(help="Listen here, 0.0.0.0 say, and ask for a token. [default: this machine alone, without one]"),
    ] = None,
    port: Annotated[int, Parameter(help="The page's port.", validator=Number(gte=1, lte=65535))] = 8080,
    allow_host: Annotated[
        tuple[str, ...], Parameter(help="With --host: a name that the page is reached by. Repeatable.")
    ] = (),
    open_: Annotated[bool, Parameter(name="--open", help="Open the page in a browser.")] = True,
    config: Annotated[Path | None, Parameter(help="Options from a TOML file: `frames = 8`. Flags beat it.")] = None,
    **flags: Any,
) -> int:
    """Read, correct and approve captions on a page in the browser; `?` there lists its keys.

    Every change is on disk at once and can be undone, there and by `restore`. The other options are those of
    `caption`, for captioning from the page. On a rented machine, forward the port: ssh -L 8080:localhost:8080.
    """
    layers = (read_config(config), flags)
    settings = Settings.from_dict(*layers)
    selected = settings.selection
    if selected.captions_to != "txt" or not (selected.output is None or is_local(selected.output)):
        raise UsageError("review reads the .txt of a folder of this machine: leave out --captions-to and s3://")
    if not folder.is_dir():
        raise StartError(f"{folder} is no folder: give the one that holds the media")
    try:
        import nicegui  # noqa: F401
        import regex  # noqa: F401
    except ImportError as error:
        raise StartError(f"review needs {error.name}: pip install 'gemma-captioner[review]'") from error
    from ..dataset.discover import resolve_roots
    from ..pipeline.decoding import decode_settings
    from ..review.guard import LOOPBACK, AccessPolicy
    from ..review.library import Library
    from ..review.media import Media
    from ..review.page.app import serve
    from ..review.page.review_state import ReviewState

    [root] = resolve_roots([folder], settings.selection.output)
    library = Library(root, settings)
    library.refresh()
    policy = AccessPolicy() if host is None else AccessPolicy(LOOPBACK | {host, *allow_host}, secrets.token_urlsafe(32))
    name = "localhost" if host in (None, "0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    address = f"http://{name}:{port}/"
    err.print(f"{printable(root.folder)}: {len(library.entries):,} files", markup=False)
    err.print(
        f"{address}{f'?token={policy.token}' if policy.token else ''}   Ctrl-C ends it", markup=False, soft_wrap=True
    )
    workers = settings.conduct.workers or os.cpu_count() or 1
    review_state = ReviewState(library, settings, layers, Media(library, decode_settings(settings), workers))
    serve(review_state, host=host or "127.0.0.1", port=port, policy=policy, open_browser=open_)
    return 0
