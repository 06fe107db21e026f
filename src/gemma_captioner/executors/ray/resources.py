"""Starts or joins Ray, and decides the number of actors and the CPUs and GPUs of each."""

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from ...config.run import ClusterSettings
from ...errors import StartError
from ...text import counted

_CPUS_PER_ACTOR = 4  # without GPUs, a node gets one actor per 4 CPUs
_CPU_FRACTION = 0.8  # if the actors take every CPU, Ray Data has none for itself and waits forever
_OBJECT_STORE_BYTES = 200 << 20  # enough, because only paths and captions pass through the object store


@dataclass(frozen=True, slots=True)
class ActorResources:
    """The number of actors, and the CPUs and GPUs of each. Actors with a fraction of a GPU share it."""

    actors: int
    cpus: float
    gpus: float
    dashboard: str | None = None

    def __str__(self) -> str:
        return f"{counted(self.actors, 'actor')}, CPUs per actor: {self.cpus:g}, GPUs per actor: {self.gpus:g}"


def plan_actors(nodes: Sequence[Mapping[str, float]], settings: ClusterSettings) -> ActorResources:
    """Divide the nodes into actors.

    # one node with 8 GPUs and 64 CPUs: 8 actors with 6.4 CPUs and 1 GPU each
    # one node with 2 CPUs and no GPU: 1 actor with 1.6 CPUs

    `nodes` has the resources of each live node as Ray reports them, such as `{"CPU": 64.0, "GPU": 8.0}`. Raises
    `StartError` if no node has the requested GPUs.
    """
    gpus = settings.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0

    def slots(node: Mapping[str, float]) -> int:
        if gpus:
            return int(node.get("GPU", 0) / gpus + 1e-6)
        return max(1, int(node.get("CPU", 0) / _CPUS_PER_ACTOR)) if node.get("CPU") else 0

    available = sum(map(slots, nodes))
    actors = settings.actors or available
    if not actors:
        raise StartError(
            f"no node has enough GPUs (GPUs per actor: {gpus:g}): lower --gpus-per-actor, or set --actors N to wait"
        )
    shares = [_CPU_FRACTION * node.get("CPU", 0) / slots(node) for node in nodes if slots(node)]
    share = min(shares, default=1.0) * min(1.0, available / actors if available else 1.0)
    return ActorResources(actors, settings.cpus_per_actor or max(0.01, int(share * 100) / 100), gpus)


@contextmanager
def connect(settings: ClusterSettings) -> Iterator[ActorResources]:
    """Start or join Ray for the time of the context. Raises `StartError` if that fails."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # hides the GPUs from actors without one
    with ExitStack() as stack:
        with _defer_signals():
            try:
                import pyarrow  # noqa: F401  # Ray Data requires it, but `ray` does not install it
                import ray
                import ray.data
            except ImportError as error:
                raise StartError(f"--cluster requires Ray: pip install 'gemma-captioner[cluster]' ({error})") from error
            if ray.is_initialized():
                raise StartError("this process already uses Ray: call ray.shutdown(), or caption in another process")
            stack.callback(ray.shutdown)
            try:
                if address := re.fullmatch(r"ray://\[?(.+?)\]?:(\d+)", settings.cluster or ""):
                    # Fails faster than Ray, which retries for 30 s.
                    socket.create_connection((address[1], int(address[2])), timeout=10).close()
                context = ray.init(**_init_kwargs(settings))
            except Exception as error:  # grpc, Ray and sockets each have their own exceptions
                raise StartError(
                    f"--cluster {settings.cluster}: cannot connect to Ray ({str(error).strip()[:300]}): check that Ray "
                    "runs at this address"
                ) from error
        ray._private.worker._worker_logs_enabled = False  # otherwise it prints to stdout, which belongs to --json
        nodes: Any = ray.nodes()  # type: ignore[no-untyped-call]
        resources = plan_actors([node["Resources"] for node in nodes if node["Alive"]], settings)
        yield replace(resources, dashboard=getattr(context, "dashboard_url", None) or None)


@contextmanager
def _defer_signals() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the context. A second signal acts at once.

    While Ray starts, Ctrl-C would crash it and SIGTERM would end the process with exit code 15.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:  # Ray has replaced the SIGTERM handler with its own
        received.append(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _init_kwargs(settings: ClusterSettings) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.cluster == "local":
        return {"address": "local", "object_store_memory": _OBJECT_STORE_BYTES, **quiet}
    return {"address": settings.cluster, **quiet}
