"""HTTP responses with media files, with support for ranges.

A file is opened before the response begins, so that moving it to the trash does not interrupt the transfer.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, Response, StreamingResponse

_CHUNK = 1 << 18
# Addresses contain the session of the server, so another server's files are never taken from the browser's cache.
_CACHE_HEADERS = {"cache-control": "private, max-age=86400", "accept-ranges": "bytes"}


def media_response(path: Path, media_type: str, range_header: str | None) -> Response:
    """Return a response with the file or one range of it. Raises `OSError` if the file cannot be opened.

    range_header: the Range header. For any other, such as several ranges or a suffix, the whole file is sent.
    """
    file = path.open("rb")
    size = os.fstat(file.fileno()).st_size
    part = re.fullmatch(r"bytes=(\d{1,19})-(\d{0,19})", range_header or "")
    first = int(part[1]) if part else 0
    end = min(int(part[2]) + 1, size) if part and part[2] else size
    headers = {"content-length": str(end - first), **_CACHE_HEADERS}
    if part:
        headers["content-range"] = f"bytes {first}-{end - 1}/{size}"
        if first >= end:
            file.close()
            return PlainTextResponse("no such part", 416, {"content-range": f"bytes */{size}"})
    chunks = _chunks(file, first, end)
    return StreamingResponse(chunks, 206 if part else 200, headers, media_type, BackgroundTask(file.close))


def _chunks(file: BinaryIO, first: int, end: int) -> Iterator[bytes]:
    file.seek(first)
    while first < end and (chunk := file.read(min(_CHUNK, end - first))):
        first += len(chunk)
        yield chunk
