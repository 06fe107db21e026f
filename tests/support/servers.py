"""Local servers for tests: a stub of the OpenAI protocol, and a proxy that injects faults.

`python servers.py PORT [ANSWER_S]` runs the stub.
"""

import asyncio
import base64
import io
import json
import random
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from PIL import Image

COLORS = {"red": (220, 40, 40), "blue": (50, 80, 220), "white": (240, 240, 240)}


@dataclass
class HttpRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class HttpResponse:
    """body: bytes, or a value that is sent as JSON."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)

    def as_bytes(self) -> bytes:
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"Content-Length": str(len(content)), "Content-Type": "application/json", **self.headers}
        lines = [f"HTTP/1.1 {self.status} Status", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + content


async def read(reader: asyncio.StreamReader) -> HttpRequest | None:
    """Return the next request of a connection; None at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.splitlines()
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    method, path, _ = first.split()
    return HttpRequest(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


class ThreadedServer:
    """A TCP server in its own thread. `stop` closes its port and all connections; `start` opens the same port."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        self._await(self._open())

    def stop(self) -> None:
        self._await(self.shut())

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    def _await(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (asked := await read(reader)) is not None:
                await self.serve(asked, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def serve(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def completion(text: str, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    return {"choices": [choice], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}


def prompt_of(asked: HttpRequest) -> str:
    parts = asked.json["messages"][-1]["content"]
    return "".join(part["text"] for part in parts if part["type"] == "text")


def images_in(asked: HttpRequest) -> list[Image.Image]:
    parts = asked.json["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def colors_in(asked: HttpRequest) -> str:
    """Return the color in the middle of each image: "red blue"."""
    middles = [
        np.asarray(image.convert("RGB"), np.int32)[image.height // 2, image.width // 2] for image in images_in(asked)
    ]
    near = lambda pixel: min(COLORS, key=lambda name: np.abs(np.array(COLORS[name]) - pixel).sum())  # noqa: E731
    return " ".join(near(pixel) for pixel in middles)


def echo_prompt(asked: HttpRequest) -> HttpResponse:
    return HttpResponse(body=completion(f"You asked: {prompt_of(asked)}"))


class StubServer(ThreadedServer):
    """Answers each request after `answer_s` with the result of `rule`."""

    def __init__(
        self,
        rule: Callable[[HttpRequest], HttpResponse] = echo_prompt,
        *,
        models: tuple[str, ...] = ("stub",),
        answer_s: float = 0.0,
        port: int = 0,
    ) -> None:
        self.rule, self.models, self.answer_s = rule, models, answer_s
        self.list: HttpResponse | None = None  # replaces the list of models
        self.asked: list[HttpRequest] = []
        self.in_flight = self.max_in_flight = 0
        super().__init__(port)

    async def serve(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write((await self.answer(asked)).as_bytes())
        await writer.drain()

    async def answer(self, asked: HttpRequest) -> HttpResponse:
        path = asked.path.partition("?")[0]
        if path.endswith("/models") and self.list is not None:
            return self.list
        if path.endswith("/models"):
            return HttpResponse(body={"data": [{"id": name, "max_model_len": 8192} for name in self.models]})
        if not path.endswith("/chat/completions"):
            return HttpResponse(404, {"error": "no such path"})
        self.asked.append(asked)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.answer_s)
            return self.rule(asked)
        finally:
            self.in_flight -= 1


Fault = Callable[["FaultProxy", HttpRequest, asyncio.StreamWriter], Awaitable[None]]


class FaultProxy(ThreadedServer):
    """A proxy between a client and a stub. A random share of the requests meets a fault; the kinds take turns."""

    def __init__(
        self, upstream: StubServer, fault_rate: float, seed: int, faults: tuple[str, ...] | None = None
    ) -> None:
        self.upstream, self.fault_rate, self.faults = upstream, fault_rate, faults or tuple(FAULTS)
        self.rng = random.Random(seed)
        self.met: Counter[str] = Counter()
        super().__init__()

    async def serve(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        fault = "none"
        if asked.path.endswith("/chat/completions") and self.rng.random() < self.fault_rate:
            fault = self.faults[(self.met.total() - self.met["none"]) % len(self.faults)]
        self.met[fault] += 1
        await FAULTS.get(fault, FaultProxy.forward)(self, asked, writer)

    async def forward(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        reader, upstream = await asyncio.open_connection("127.0.0.1", self.upstream.port)
        lines = [f"{asked.method} {asked.path} HTTP/1.1", f"Content-Length: {len(asked.body)}", "", ""]
        upstream.write("\r\n".join(lines).encode() + asked.body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        writer.write(head + await reader.readexactly(length))
        upstream.close()
        await writer.drain()

    async def latency(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.rng.uniform(0.05, 0.3))
        await self.forward(asked, writer)

    async def reset(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        """Reset the connection in the middle of a body."""
        whole = HttpResponse(body=completion("half of")).as_bytes()
        writer.write(whole[: len(whole) * 2 // 3])
        await writer.drain()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def drop(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        """Close the connection without a response."""
        writer.transport.abort()

    async def stall(self, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)


def _respond_with(said: HttpResponse) -> Fault:
    async def fault(proxy: FaultProxy, asked: HttpRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(said.as_bytes())
        await writer.drain()

    return fault


FAULTS: dict[str, Fault] = {
    "latency": FaultProxy.latency,
    "429": _respond_with(HttpResponse(429, {"error": {"message": "slow down"}})),
    "429 with Retry-After": _respond_with(
        HttpResponse(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.3"})
    ),
    "500": _respond_with(HttpResponse(500, {"error": {"message": "internal"}})),
    "503": _respond_with(HttpResponse(503, b"<html><body>no upstream</body></html>")),
    "reset": FaultProxy.reset,
    "drop": FaultProxy.drop,
    "stall": FaultProxy.stall,
    "garbage": _respond_with(HttpResponse(body=b"\x00\xff not JSON")),
    "schema": _respond_with(HttpResponse(body={"result": {"caption": "not a completion"}})),
}


def main() -> None:
    port, answer_s = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    stub = StubServer(port=port, answer_s=answer_s)
    print("listening", flush=True)
    stub._thread.join()


if __name__ == "__main__":
    main()
