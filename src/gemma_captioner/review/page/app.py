"""The server: what it sends, to whom, and the page."""

import socket
from collections.abc import Awaitable, Callable
from importlib.resources import files

from nicegui import Client, app, ui
from starlette.responses import FileResponse, PlainTextResponse, Response

from ...errors import ItemError, StartError
from ..guard import Guard, Terms
from ..library import readable
from ..media import Shown
from .components import Gallery, Keys
from .desk import Desk
from .detail import Detail
from .filters import Filters
from .help import help_sheet
from .keys import COMMANDS, FOCUS, MOVES
from .tab import ReviewTab

_RECONNECT_S = 30.0  # a laptop's lid, a tunnel that is dialled anew
_KEPT = {"cache-control": "private, max-age=86400"}  # addresses differ from server to server


def serve(desk: Desk, *, host: str, port: int, terms: Terms, opens: bool) -> None:
    """Until it is interrupted. Raises `StartError` where the port is taken."""
    _see_that_free(host, port)
    _routes(desk)
    app.add_middleware(Guard, terms=terms, cookie=f"gemma-captioner-{port}")
    ui.add_css(files(__package__).joinpath("review.css").read_text(encoding="utf-8"), shared=True)
    app.on_startup(desk.start)
    app.on_shutdown(desk.close)
    ui.page("/", title=f"{desk.library.root.folder.name} - review")(lambda client: _page(desk, client))
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


def _answering(find: Callable[[int], Awaitable[Shown]]) -> Callable[[int], Awaitable[Response]]:
    async def answer(number: int) -> Response:
        try:
            shown = await find(number)
        except LookupError:
            return PlainTextResponse("no such item", 404)
        except ItemError as error:
            return PlainTextResponse(readable(str(error)), 422)
        return FileResponse(shown.path, media_type=shown.type, headers=_KEPT)

    return answer


async def _page(desk: Desk, client: Client) -> None:
    tab = ReviewTab(desk)
    dark = ui.dark_mode(None)
    sheet = help_sheet()
    with ui.element("main").classes("review"):
        with ui.element("div").classes("left"):
            Filters(tab)
            tab.gallery = Gallery(desk.session).on("pick", tab.pick)
            tab.gallery.on("columns", lambda event: setattr(tab, "columns", event.args))
        tab.detail = Detail(tab)
    tab.commands |= {"help": sheet.open, "dark": lambda: dark.set_value(not dark.value)}
    Keys(COMMANDS, FOCUS, MOVES).on("command", tab.obey)
    await client.connected()
    tab.open(client.tab_id or client.id)
    client.on_disconnect(tab.keep_draft)
    client.on_delete(tab.leave)
