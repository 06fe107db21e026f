"""Measures the overhead of the server engine against a plain HTTP client. A stub answers every request after 200 ms.

    python benchmarks/server.py                    # 12-frame clips of 64 and 896 pixels, 64 concurrent requests
    python benchmarks/server.py --only files       # images of 896 pixels whose JPEG files are sent as they are

ours: `ServerSession`, which encodes the frames. bare: httpx2 posts the same bodies, which are prepared before.
encoding: as bare, but encodes the frames first, in as many threads as ours. One round runs each of them once.
"""

import argparse
import asyncio
import io
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import httpx2
import numpy as np
from material import texture
from PIL import Image

from gemma_captioner.config.settings import Settings
from gemma_captioner.engines import engine_for
from gemma_captioner.engines.openai.media_encoding import encode_images
from gemma_captioner.engines.openai.payload import EncodedMedia, RequestTemplate, request_body
from gemma_captioner.engines.openai.session import _ENCODERS
from gemma_captioner.media.jpeg import strip_metadata
from gemma_captioner.types import Frames, MediaItem, Reply, Request

ANSWER_S, CONCURRENCY, FRAMES = 0.2, 64, 12
RESPONSE = b'{"choices":[{"message":{"content":"A clip."},"finish_reason":"stop"}],"usage":{"completion_tokens":3}}'
RUNS = {"64": (64, 800, 15), "896": (896, 96, 5), "files": (896, 800, 9)}  # (side of a frame, requests, rounds)
ITEM = MediaItem(Path("a.mp4"), "clip", "a.mp4", Path("a.txt"), Path())


async def stub(port: int) -> None:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                while left > 0:
                    left -= len(await reader.read(min(left, 1 << 20)))
                await asyncio.sleep(ANSWER_S * head.startswith(b"POST"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(RESPONSE) + RESPONSE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", port, limit=1 << 21)
    await server.serve_forever()


def clips(side: int) -> list[Frames]:
    """Return four different clips that pan over drawings."""
    frames = []
    for seed in range(4):
        ground = texture(side + 4 * FRAMES, side, seed)
        pixels = [ground[:, 4 * n : 4 * n + side] for n in range(FRAMES)]
        frames.append(Frames(np.stack(pixels), tuple(map(float, range(FRAMES))), kind="clip"))
    return frames


def files(side: int) -> list[Frames]:
    """Return four different images with their JPEG files."""
    frames = []
    for seed in range(4):
        pixels = texture(side, side, seed)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=92)
        frames.append(Frames(pixels[None], (0.0,), jpeg=strip_metadata(file.getvalue())))
    return frames


def ours(settings: Settings, requests: list[Request]) -> float:
    with engine_for(settings).open() as session:
        since, waiting, answers = time.perf_counter(), list(requests), 0
        while answers < len(requests):
            while waiting and session.available_slots:
                session.submit(waiting.pop())
            got = session.poll(0.02)
            assert all(isinstance(answer, Reply) for answer in got), got
            answers += len(got)
        return time.perf_counter() - since


def bare_client(url: str, bodies: Callable[[], list[bytes]]) -> float:
    since = time.perf_counter()
    asyncio.run(_post(url, bodies()))
    return time.perf_counter() - since


async def _post(url: str, bodies: list[bytes]) -> None:
    async def worker(client: httpx2.AsyncClient) -> None:
        while bodies:
            reply = await client.post(url, content=bodies.pop(), headers={"content-type": "application/json"})
            assert reply.json()["choices"]

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as client:
        await asyncio.gather(*(worker(client) for _ in range(CONCURRENCY)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, help="instead of 15, 5 and 9")
    parser.add_argument("--only", choices=RUNS, help="one of the runs")
    parser.add_argument("--stub", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stub:
        return asyncio.run(stub(given.stub))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "--stub", str(port)])
    print(f"{CONCURRENCY} concurrent, answered after {ANSWER_S} s: at most {CONCURRENCY / ANSWER_S:.0f} requests/s")
    try:
        for name, (side, count, rounds) in RUNS.items():
            if given.only in (None, name):
                shown = files(side) if name == "files" else clips(side)
                measure(shown, count, given.rounds or rounds, f"http://127.0.0.1:{port}/v1")
    finally:
        server.kill()
        server.wait()


def measure(shown: list[Frames], count: int, rounds: int, url: str) -> None:
    frames, side = shown[0].pixels.shape[:2]
    settings = Settings.from_dict(
        {"engine": "server", "base_url": url, "model": "m", "concurrency": CONCURRENCY, "image_size": side},
        {"wait_for_server": "1m"},
    )
    requests = [Request(n, ITEM, shown[n % len(shown)], "Describe the clip.", 100) for n in range(count)]
    form = RequestTemplate("m", "image/jpeg", "media-first", "", None)

    def encode(request: Request) -> bytes:
        images = encode_images(request.frames, settings.server)
        return request_body(form, request, [EncodedMedia(images)], range(frames), ())

    def encode_all() -> list[bytes]:
        with ThreadPoolExecutor(_ENCODERS) as threads:
            return list(threads.map(encode, requests))

    prepared = [encode(request) for request in requests[: len(shown)]] * (count // len(shown))
    engine_for(settings).open().close()  # waits for the stub server
    methods = {
        "ours": partial(ours, settings, requests),
        "bare": lambda: bare_client(f"{url}/chat/completions", lambda: list(prepared)),
        "encoding": lambda: bare_client(f"{url}/chat/completions", encode_all),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            seconds[name].append(method())
    ratios = sorted(b / o for o, b in zip(seconds["ours"], seconds["bare"], strict=True))
    kind = "frames" if shown[0].jpeg is None else "file"
    print(f"\n{frames} {kind} of {side} x {side}, {len(prepared[0]) / 1024:.0f} KiB per body, ", end="")
    print(f"{CONCURRENCY} concurrent, {count} requests, at most {CONCURRENCY / ANSWER_S:.0f}/s")
    for name, took in seconds.items():
        rates = sorted(count / s for s in took)
        print(f"  {name:9} {median(rates):6.1f} requests/s, {rates[0]:.1f} to {rates[-1]:.1f}")
    print(f"  ratio of ours to bare, per round: {median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}")


if __name__ == "__main__":
    main()
