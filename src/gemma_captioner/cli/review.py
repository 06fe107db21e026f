"""`gemma-captioner review`: serves the review page, on this machine only, or to others with a token."""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from ..config.run import ClusterSettings
from ..config.settings import Settings
from ..errors import StartError, UsageError
from ..storage.filesystem import is_local
from ..text import printable
from .caption import CAPTION_OPTIONS, OutputOptions, read_config_file
from .help import examples
from .options import LocalPathOption, pydantic_parameter, with_options
from .shell import app, err

Port = Annotated[int, Field(ge=1, le=65535)]


@app.command(help_epilogue=examples("review"))
@with_options(*(options for options in CAPTION_OPTIONS if options.group is not ClusterSettings))
def review(
    folder: Annotated[LocalPathOption, Parameter(help="The dataset to review.")],
    /,
    *,
    host: Annotated[
        str | None,
        Parameter(help="Listen on this address and require a token. [default: this machine only, no token]"),
    ] = None,
    port: Annotated[Port, pydantic_parameter(Port), Parameter(help="Serve the page on this port.")] = 8080,
    allow_host: Annotated[
        tuple[str, ...], Parameter(help="With --host: accept requests to this host name too. Repeatable.")
    ] = (),
    open_: Annotated[bool, Parameter(help="Open the page in a browser.")] = True,
    config: Annotated[Path | None, Parameter(help=OutputOptions.model_fields["config"].description)] = None,
    **flags: Any,
) -> int:
    """Review, correct and approve captions in the browser.

    Saves every change at once; the page and `restore` can undo it. `?` on the page lists its keys. The options of
    `caption` set how the page captions files again. For a remote machine, forward the port: ssh -L 8080:localhost:8080.
    """
    layers = (read_config_file(config, flags), flags)
    settings = Settings.from_dict(*layers)
    selected = settings.selection
    if selected.captions_to != "txt" or not (selected.output is None or is_local(selected.output)):
        raise UsageError(
            "review works with .txt files on this machine: leave out --captions-to parquet and s3:// folders"
        )
    if not folder.is_dir():
        raise StartError(f"{printable(folder)} is not a folder: give the folder of the dataset")
    try:
        import nicegui  # noqa: F401
        import regex  # noqa: F401
    except ImportError as error:
        raise StartError(f"review requires {error.name}: pip install 'gemma-captioner[review]'") from error
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
    err.print(f"{printable(root.folder)}: {len(library.entries):,} files")
    err.print(f"{address}{f'?token={policy.token}' if policy.token else ''}   Ctrl-C ends it", soft_wrap=True)
    workers = settings.run_options.workers or os.cpu_count() or 1
    review_state = ReviewState(library, settings, layers, Media(library, decode_settings(settings), workers))
    serve(review_state, host=host or "127.0.0.1", port=port, policy=policy, open_browser=open_)
    return 0
