"""The web server: its routes, its access guard and the page."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any

from nicegui import Client, app, ui
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ...config.languages import LANGUAGES
from ...errors import ItemError, StartError
from ...text import encodable
from ..guard import AccessPolicy, Guard
from ..media import MediaFile
from ..query import Query
from ..terms import written
from .actions import Actions
from .bulk_edit_dialog import BulkEditDialog
from .compare_dialog import CompareDialog
from .components import Gallery, Keys
from .detail import Detail
from .export_dialog import ExportDialog
from .filters import Filters
from .help import help_dialog
from .keys import COMMANDS, FOCUS, LOCAL_COMMANDS, NAVIGATION_COMMANDS, OPENING_COMMANDS
from .media_elements import Splitter
from .media_responses import media_response
from .overview_panel import OverviewPanel
from .progress import ProgressBar
from .recaption_dialog import RecaptionDialog
from .review_state import ReviewState
from .run_notices import RunNotices
from .run_panel import RunPanel
from .saving import Saving
from .selection_bar import SelectionBar
from .tab import ReviewTab
from .tag_mode import TagMode
from .toolbar import Toolbar

_SHOWN_AFTER_RUN: tuple[tuple[str, str], ...] = (("proposals", "recaptioned"), ("failed", "failed"))
_REFRESH_INTERVAL_S = 0.5
_RECONNECT_S = 30.0  # for a closed laptop lid or a reconnecting SSH tunnel


def serve(review_state: ReviewState, *, host: str, port: int, policy: AccessPolicy, open_browser: bool) -> None:
    """Serve until interrupted. Raises `StartError` if the port is in use."""
    _check_port_is_free(host, port)
    _routes(review_state)
    logging.getLogger("uvicorn.error").addFilter(_is_no_disconnect)
    app.add_middleware(Guard, policy=policy, cookie=f"gemma-captioner-{port}")
    ui.add_css(files(__package__).joinpath("review.css").read_text(encoding="utf-8"), shared=True)
    app.on_startup(review_state.start)
    app.on_shutdown(review_state.close)
    ui.dialog.default_props("transition-duration=0")
    app.colors(primary="#1b66dc")
    ui.page("/", language="en-US", title=encodable(f"{review_state.library.root.folder.name} - review"))(
        lambda client: _page(review_state, client)
    )
    ui.run(
        host=host,
        port=port,
        show="/" + (f"?token={policy.token}" if policy.token else "") if open_browser else False,
        reload=False,
        dark=None,
        show_welcome_message=False,
        reconnect_timeout=_RECONNECT_S,
        timeout_graceful_shutdown=2,
        server_header=False,
    )


def _is_no_disconnect(record: logging.LogRecord) -> bool:
    """False for what Starlette raises when a browser goes away before its picture is ready."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, RuntimeError) and str(error) == "No response returned.")


def _check_port_is_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from error


def _routes(review_state: ReviewState) -> None:
    """Addresses contain item numbers, not paths, so that none can point outside the folder."""

    async def frame_strip(number: int) -> MediaFile:
        return (await review_state.frame_strip(number))[0]

    media = review_state.media
    app.get("/strip/{number}")(_media_route(frame_strip))
    for kind, load in {
        "thumb": media.thumb,
        "tile": media.tile,
        "picture": media.picture,
        "full": media.full,
        "clip": media.clip,
    }.items():
        app.get(f"/{kind}/{{number}}")(_media_route(load))
        app.get(f"/{kind}/{{number}}/{{source}}")(_source_route(load))


def _media_route(load: Callable[[int], Awaitable[MediaFile]]) -> Callable[..., Awaitable[Response]]:
    async def respond(number: int, request: Request) -> Response:
        return await _respond(load(number), request)

    return respond


def _source_route(load: Callable[[int, int], Awaitable[MediaFile]]) -> Callable[..., Awaitable[Response]]:
    """The route of an item's source images. source: its place among them."""

    async def respond(number: int, source: int, request: Request) -> Response:
        return await _respond(load(number, source), request)

    return respond


async def _respond(pending: Awaitable[MediaFile], request: Request) -> Response:
    try:
        file = await pending
        return await asyncio.to_thread(media_response, file.path, file.type, request.headers.get("range"))
    except (LookupError, FileNotFoundError):  # FileNotFoundError: removed since the last scan
        return PlainTextResponse("no such item", 404)
    except (ItemError, OSError) as error:
        return PlainTextResponse(encodable(str(error)), 422)


async def _page(review_state: ReviewState, client: Client) -> None:
    tab = ReviewTab(review_state)
    shortcuts = help_dialog()
    bulk, recaption = BulkEditDialog(tab), RecaptionDialog(tab)
    with ui.element("main").classes("review"):
        toolbar = Toolbar(tab)
        with ui.element("div").classes("left"):
            with ui.element("div").classes("panel-grid") as captions:
                Filters(tab)
                SelectionBar(tab)
                language = LANGUAGES[review_state.settings.quality.language]
                with ui.element("div").classes("browse"):
                    tab.gallery = Gallery(review_state.session, lang=language).on("pick", tab.pick)
                    tag_mode = TagMode(tab, bulk)
                tab.gallery.on("want", lambda event: tab.send_captions(event.args))
                tab.gallery.on("columns", lambda event: setattr(tab, "columns", event.args))
            overview, runs = OverviewPanel(tab), RunPanel(tab)
        Splitter()
        tab.detail = Detail(review_state, filter_by=tab.filter_by, empty_message=tab.empty_message)
        tab.progress = ProgressBar()
        saving, notices = Saving(tab), RunNotices(tab)
    tab.on_view.append(lambda: tab.detail.show_targets(len(tab.selection.selected)))
    panels = {"captions_tab": captions, "overview_tab": overview.element, "run_tab": runs.element}

    def show_panel(name: str) -> Any:
        for other, panel in panels.items():
            panel.set_visibility(other == name)
        toolbar.show_panel(name)
        return overview.show() if name == "overview_tab" else None

    def show_items(query: Query) -> None:
        tab.apply_query(query)
        show_panel("captions_tab")

    def refresh_run() -> None:
        runs.refresh()
        tab.refresh_sizes()
        notices.refresh()
        toolbar.show_run()

    tab.commands |= Actions(tab).commands
    tab.commands |= {name: partial(show_panel, name) for name in panels}
    tab.commands |= {"help": shortcuts.open, "bulk": bulk.open, "recaption": recaption.open}
    tab.commands["tag_mode"] = tag_mode.toggle
    tab.commands |= {"compare": CompareDialog(tab).open, "export_selection": ExportDialog(tab).open}
    tab.commands |= {
        f"show_{name}": partial(show_items, Query(written("state", state))) for name, state in _SHOWN_AFTER_RUN
    }
    show_panel("captions_tab")
    tab.keys = Keys(COMMANDS, FOCUS, NAVIGATION_COMMANDS, OPENING_COMMANDS, LOCAL_COMMANDS)
    tab.keys.on("command", tab.on_command)
    await client.connected()
    if client.is_deleted:  # a request without a browser behind it, from a link preview for example
        return
    client.on_disconnect(tab.save_unsaved)
    client.on_delete(tab.close)
    tab.open(client.tab_id or client.id)
    tag_mode.restore()
    ui.timer(_REFRESH_INTERVAL_S, refresh_run)
    await saving.restore_drafts()
