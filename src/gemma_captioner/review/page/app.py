"""The server: what it sends, to whom, and the page."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any

from nicegui import Client, app, ui
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ...errors import ItemError, StartError
from ..guard import Guard, Terms
from ..library import readable
from ..media import Shown
from .actions import Actions
from .again_sheet import AgainSheet
from .bulk_sheet import BulkSheet
from .components import Gallery, Keys
from .desk import Desk
from .detail import Detail
from .filters import Filters
from .help import help_sheet
from .keys import COMMANDS, FOCUS, MOVES
from .overview_panel import OverviewPanel
from .run_panel import RunPanel, run_line
from .sending import sent
from .tab import ReviewTab

_PANELS = {"captions_tab": "Captions", "overview_tab": "Overview", "run_tab": "Run"}
_RUN_EVERY_S = 0.5
_RECONNECT_S = 30.0  # a laptop's lid, a tunnel that is dialled anew


def serve(desk: Desk, *, host: str, port: int, terms: Terms, opens: bool) -> None:
    """Until it is interrupted. Raises `StartError` where the port is taken."""
    _see_that_free(host, port)
    _routes(desk)
    app.add_middleware(Guard, terms=terms, cookie=f"gemma-captioner-{port}")
    ui.add_css(files(__package__).joinpath("review.css").read_text(encoding="utf-8"), shared=True)
    app.on_startup(desk.start)
    app.on_shutdown(desk.close)
    ui.dialog.default_props("transition-duration=0")
    app.colors(primary="#1b66dc")
    ui.page("/", title=readable(f"{desk.library.root.folder.name} - review"))(lambda client: _page(desk, client))
    ui.run(
        host=host,
        port=port,
        show="/" + (f"?token={terms.token}" if terms.token else "") if opens else False,
        reload=False,
        dark=None,
        show_welcome_message=False,
        reconnect_timeout=_RECONNECT_S,
        timeout_graceful_shutdown=2,
        server_header=False,
    )


def _see_that_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"--host {host} --port {port}: {error.strerror}. Take another --port") from error


def _routes(desk: Desk) -> None:
    """Numbers, not paths: there is no address that could lead out of the folder."""

    async def strip(number: int) -> Shown:
        return (await desk.strip(number))[0]

    media = desk.media
    for kind, find in {"thumb": media.thumb, "picture": media.picture, "clip": media.clip, "strip": strip}.items():
        app.get(f"/{kind}/{{number}}")(_answering(find))


def _answering(find: Callable[[int], Awaitable[Shown]]) -> Callable[..., Awaitable[Response]]:
    async def answer(number: int, request: Request) -> Response:
        try:
            shown = await find(number)
            return await asyncio.to_thread(sent, shown.path, shown.type, request.headers.get("range"))
        except (LookupError, FileNotFoundError):  # the latter between two looks at the folder
            return PlainTextResponse("no such item", 404)
        except (ItemError, OSError) as error:
            return PlainTextResponse(readable(str(error)), 422)

    return answer


async def _page(desk: Desk, client: Client) -> None:
    tab = ReviewTab(desk)
    dark = ui.dark_mode(None)
    sheet = help_sheet()
    bulk, again = BulkSheet(tab), AgainSheet(tab)
    with ui.element("main").classes("review"):
        with ui.element("div").classes("left"):
            with ui.element("nav").classes("tabs"):
                buttons = {
                    name: ui.button(label, on_click=lambda name=name: tab.command(name)).props("flat dense no-caps")
                    for name, label in _PANELS.items()
                }
                run = ui.label().classes("run-line ellipsis").props("role=status")
            with ui.element("div").classes("panel-grid") as captions:
                Filters(tab)
                tab.gallery = Gallery(desk.session).on("pick", tab.pick)
                tab.gallery.on("columns", lambda event: setattr(tab, "columns", event.args))
            overview, runs = OverviewPanel(tab), RunPanel(tab)
        tab.detail = Detail(desk, narrow=tab.narrow, why_nothing=tab.why_nothing)
        tab.box.on("draft", tab.take_draft).on("save", tab.save).on("left", tab.take_left)
    panels = {"captions_tab": captions, "overview_tab": overview.element, "run_tab": runs.element}

    def turn_to(name: str) -> Any:
        for other, panel in panels.items():
            panel.set_visibility(other == name)
            buttons[other].props(f"aria-pressed={str(other == name).lower()}")
        return overview.show() if name == "overview_tab" else None

    def refresh_run() -> None:
        runs.refresh()
        run.text = run_line(tab) if desk.runs.state != "idle" else ""

    tab.commands |= Actions(tab).commands
    tab.commands |= {name: partial(turn_to, name) for name in panels}
    tab.commands |= {"help": sheet.open, "bulk": bulk.open, "recaption": again.open}
    tab.commands["dark"] = lambda: dark.set_value(not dark.value)
    turn_to("captions_tab")
    Keys(COMMANDS, FOCUS, MOVES).on("command", tab.obey)
    await client.connected()
    client.on_disconnect(tab.keep_draft)
    client.on_delete(tab.leave)
    tab.open(client.tab_id or client.id)
    ui.timer(_RUN_EVERY_S, refresh_run)
    await tab.pick_up()
