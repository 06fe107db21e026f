"""A local S3 bucket, served by moto, that counts its requests."""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

NAME = "bucket"


class BucketRequest(NamedTuple):
    method: str
    key: str  # "" for a listing
    bytes: int  # of the response


class Bucket:
    """port: the port in AWS_ENDPOINT_URL."""

    def __init__(self, port: int) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.asked: list[BucketRequest] = []
        self._app: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", port, self._count_request, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"s3://{NAME}"
        self._client: Any = boto3.client("s3")
        self._client.create_bucket(Bucket=NAME)

    def _count_request(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Count a request before it is answered, so that its client finds it counted."""
        key = environ["PATH_INFO"].removeprefix(f"/{NAME}").lstrip("/")
        parts = list(self._app(environ, start_response))
        self.asked.append(BucketRequest(environ["REQUEST_METHOD"], key, sum(map(len, parts))))
        return parts

    def put(self, folder: Path, to: str) -> None:
        """Upload every file below `folder` to the prefix `to`."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self[f"{to}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()

    def keys(self, beneath: str = "") -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=NAME, Prefix=beneath)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def captions(self, beneath: str = "") -> dict[str, str]:
        return {key: self[key].decode() for key in self.keys(beneath) if key.endswith(".txt")}

    def __getitem__(self, key: str) -> bytes:
        return self._client.get_object(Bucket=NAME, Key=key)["Body"].read()  # type: ignore[no-any-return]

    def __setitem__(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=NAME, Key=key, Body=content)

    def fill(self, keys: Iterable[str]) -> None:
        """Add objects of one byte directly, because the API is slow."""
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key in keys:
            backend.put_object(NAME, key, b"x")

    def clear(self) -> None:
        for key in self.keys():
            self._client.delete_object(Bucket=NAME, Key=key)
        self.asked.clear()

    def close(self) -> None:
        self._client.close()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
