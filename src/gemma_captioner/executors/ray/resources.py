"""Ray, joined or started: how many actors there are to be, and what each of them has."""

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

_CPUS_PER_ACTOR = 4  # that an actor without a GPU has, where there are as many
_CPU_FRACTION = 0.8  # actors that claim every CPU leave Ray Data none for itself, and it waits for ever
_OBJECT_STORE_BYTES = 200 << 20  # paths and captions alone go through the object store


@dataclass(frozen=True, slots=True)
class ActorResources:
    """cpus, gpus: of each actor; fractions share one."""

    actors: int
    cpus: float
    gpus: float
    dashboard: str | None = None

    def __str__(self) -> str:
        of_gpus = f" and {self.gpus:g} GPU{'' if self.gpus == 1 else 's'}" if self.gpus else ", no GPU"
        return f"{self.actors} actors, each with {self.cpus:g} CPUs{of_gpus}"


def plan_actors(nodes: Sequence[Mapping[str, float]], wanted: ClusterSettings) -> ActorResources:
    """nodes: what Ray says of each that is alive, `{"CPU": 64.0, "GPU": 8.0}`. Raises `StartError`.

    # 8 GPUs and 64 CPUs in one box: 8 actors with 6.4 CPUs and a GPU each
    # 2 CPUs and no GPU: 1 actor with 1.6 CPUs
    """
    gpus = wanted.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0

    def slots(node: Mapping[str, float]) -> int:
        if gpus:
            return int(node.get("GPU", 0) / gpus + 1e-6)
        return max(1, int(node.get("CPU", 0) / _CPUS_PER_ACTOR)) if node.get("CPU") else 0

    available = sum(map(slots, nodes))
    actors = wanted.actors or available
    if not actors:
        raise StartError(f"no node has {gpus:g} GPUs free to Ray: lower --gpus-per-actor, or give --actors to wait")
    shares = [_CPU_FRACTION * node.get("CPU", 0) / slots(node) for node in nodes if slots(node)]
    share = min(shares, default=1.0) * min(1.0, available / actors if available else 1.0)
    return ActorResources(actors, wanted.cpus_per_actor or max(0.01, int(share * 100) / 100), gpus)


@contextmanager
def connect(wanted: ClusterSettings) -> Iterator[ActorResources]:
    """Ray for as long as this lasts; one that was started here ends with it. Raises `StartError`."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # an actor without a GPU sees none
    with ExitStack() as stack:
        with _defer_signals():
            try:
                import pyarrow  # noqa: F401  # Ray Data wants it; plain `ray` comes without
                import ray
                import ray.data
            except ImportError as error:
                raise StartError(f"--cluster needs Ray: pip install 'gemma-captioner[cluster]' ({error})") from error
            if ray.is_initialized():
                raise StartError("this process runs Ray already: call ray.shutdown(), or caption from another process")
            stack.callback(ray.shutdown)
            try:
                if at := re.fullmatch(r"ray://\[?(.+?)\]?:(\d+)", wanted.cluster or ""):
                    socket.create_connection((at[1], int(at[2])), timeout=10).close()  # Ray would try for 30 s
                context = ray.init(**_init_kwargs(wanted))
            except Exception as error:  # grpc's, Ray's and the socket's own kinds
                raise StartError(f"--cluster {wanted.cluster}: no Ray there ({str(error).strip()[:300]})") from error
        ray._private.worker._worker_logs_enabled = False  # else it tells of dead actors on stdout, which is --json's
        nodes: Any = ray.nodes()  # type: ignore[no-untyped-call]
        resources = plan_actors([node["Resources"] for node in nodes if node["Alive"]], wanted)
        yield replace(resources, dashboard=getattr(context, "dashboard_url", None) or None)


@contextmanager
def _defer_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM are heard when this ends, as Ray would crash of one and exits with 15 at the other.

    A second one does not wait.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone hears them
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
    except SystemExit:  # Ray has put its own handler of SIGTERM in place of ours
        received.append(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _init_kwargs(wanted: ClusterSettings) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if wanted.cluster == "local":
        return {"address": "local", "object_store_memory": _OBJECT_STORE_BYTES, **quiet}
    return {"address": wanted.cluster, **quiet}
