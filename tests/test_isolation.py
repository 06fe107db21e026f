"""Decoders that crash, hang or exhaust memory, in real processes: each fails its own file only.

Faults are put into the workers from outside, as a broken library would: a `sitecustomize` on their path.
"""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
import pytest
from pebble.pool.process import PoolManager

from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.media.pool import DecodePool
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.shared_memory import SharedMemoryArena
from gemma_captioner.media.workers import WorkerError, WorkerPool
from gemma_captioner.types import Frames, MediaItem
from tests.support.command import SpawnedProcess
from tests.support.files import captions
from tests.support.waiting import wait_until

BROKEN_LIBRARY = """
import PIL.Image
_open = PIL.Image.open
def open(path, *args, **kwargs):
    name = str(path)
    if "crashes" in name:
        import ctypes
        ctypes.string_at(0)
    if "exits" in name:
        import os
        os._exit(3)
    if "hangs" in name:
        import os, re
        os.close(os.open(name + ".begun", os.O_CREAT))
        re.match("(a+)+$", "a" * 64 + "b")  # an endless loop in C that never lets go of the interpreter
    if "eats" in name:
        hoard = []
        while True:
            hoard.append(b"x" * (1 << 28))
    return _open(path, *args, **kwargs)
PIL.Image.open = open
"""


@pytest.fixture
def broken_library(tmp_path) -> Path:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "sitecustomize.py").write_text(BROKEN_LIBRARY)
    return tmp_path / "library"


@pytest.mark.long
def test_each_of_three_faults_becomes_one_failure(command, tmp_path, script, broken_library):
    media = tmp_path / "media"
    draw_samples(media, images=30, clips=10, seed=11)
    one = next(media.glob("*.png")).read_bytes()
    for name in ("crashes", "exits", "hangs", "eats", "crashes too"):
        (media / f"{name}.png").write_bytes(one)
    done = command(
        "caption", media, "--engine", "scripted", "--model", script(), "--json", "--decode-timeout", "12",
        "--decode-memory", "0.5", "--workers", "2", env={"PYTHONPATH": str(broken_library)},
    )  # fmt: skip
    assert done.code == 3, done.err
    errors = {failure["path"].rsplit("/", 1)[1]: failure["error"] for failure in done.json["failures"]}
    assert done.json["captioned"] == 40, errors
    assert set(errors) == {"crashes.png", "crashes too.png", "exits.png", "hangs.png", "eats.png"}
    assert "SIGSEGV" in errors["crashes.png"] and "exit code 3" in errors["exits.png"]
    assert "--decode-timeout" in errors["hangs.png"]
    assert "--decode-memory" in errors["eats.png"]
    assert len(captions(media)) == 40


@pytest.mark.parametrize(
    "killed", [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="requires prctl"))]
)
def test_no_process_is_left_behind(killed, media, script, broken_library, tmp_path):
    """Neither by a run that ends nor, in a decoder that hangs, by one that is killed."""
    (media / "hangs.png").write_bytes(next(media.glob("*.png")).read_bytes())
    variables = {"PYTHONPATH": str(broken_library), "RUN_OF_THIS_TEST": str(tmp_path)}
    timeout = "600" if killed else "2"
    words = ["caption", str(media), "--engine", "scripted", "--model", str(script()), "--decode-timeout", timeout]
    with SpawnedProcess(words, tmp_path, variables) as run:
        if killed:
            wait_until(lambda: (media / "hangs.png.begun").exists())
            run.kill()
        assert run.wait().code == (-9 if killed else 3)
    wait_until(lambda: _processes_with("RUN_OF_THIS_TEST", str(tmp_path)) == [])


def _processes_with(variable: str, value: str) -> list[psutil.Process]:
    found = psutil.process_iter(["environ"])
    return [process for process in found if (process.info["environ"] or {}).get(variable) == value]


def test_a_script_without_a_main_guard_may_caption(tmp_path, media, script):
    plain = tmp_path / "plain.py"
    plain.write_text(
        "from gemma_captioner import caption\n"
        f"print(len(list(caption({str(media)!r}, engine='scripted', model={str(script())!r}))))\n"
    )
    done = subprocess.run([sys.executable, plain], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "8", done.stderr


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_the_arena_allocates_each_frame_once_and_reuses_released_ones(order):
    arena = SharedMemoryArena(12, 10)
    taken = [arena.allocate(3) for _ in range(4)]
    assert taken == [0, 3, 6, 9]
    assert arena.allocate(1) is None
    for i in order:
        arena.release(taken[i], 3)
    assert arena.allocate(12) == 0
    arena.view(0, (12, 10))[:] = 7
    assert (arena.view(4, (2, 10)) == 7).all()
    arena.close()


def test_without_memfd_the_arena_is_a_file_that_is_removed(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)  # as on a Mac
    arena = SharedMemoryArena(2, 10)
    arena.view(1, (1, 10))[:] = 7
    assert Path(arena.path).read_bytes() == bytes(10) + b"\7" * 10
    arena.close()
    assert not Path(arena.path).exists()


# Windows: processes start from nothing, and memory that two share has a name and no file.
WINDOWS = """
import mmap, multiprocessing, os, sys, types
del os.memfd_create
multiprocessing.get_all_start_methods = lambda: ["spawn"]
class NamedMemory(mmap.mmap):
    def __new__(cls, fileno, length, tagname):
        assert fileno == -1
        file = os.open(os.path.join(os.environ["NAMED_MEMORY"], tagname), os.O_RDWR | os.O_CREAT)
        os.ftruncate(file, length)
        return super().__new__(cls, file, length)
from gemma_captioner.media import shared_memory, workers
shared_memory.sys = workers.sys = types.SimpleNamespace(platform="win32", modules=sys.modules)
shared_memory.mmap = types.SimpleNamespace(mmap=NamedMemory)
"""


@pytest.mark.long
def test_decoding_as_windows_does_it(command, tmp_path):
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "sitecustomize.py").write_text(WINDOWS + BROKEN_LIBRARY, encoding="utf-8")
    media = tmp_path / "media"
    truth = draw_samples(media, images=4, clips=2, seed=11)
    (media / "exits.png").write_bytes((media / next(iter(truth))).read_bytes())
    environment = {"PYTHONPATH": str(tmp_path / "library"), "NAMED_MEMORY": str(tmp_path)}
    done = command("caption", media, "--model", "demo", "--json", env=environment)
    assert done.code == 3, done.err
    [failure] = done.json["failures"]
    assert "exit code 3" in failure["error"]
    assert captions(media) == {Path(name).with_suffix(".txt").name: said for name, said in truth.items()}
    assert list(tmp_path.glob("gemma-captioner-*"))


def test_workers_that_are_killed_while_idle_are_replaced(media):
    """As the kernel kills them if memory runs out. pebble then stops its whole pool."""
    size = (64, 64)
    items = [MediaItem(path, "image", path.name, path.with_suffix(".txt"), media) for path in media.glob("*.png")]
    with DecodePool(size, DecodeSettings(), clip_size=size, workers=2, pixel_bytes=1 << 20) as pool:
        for item in items[:2] * 2:
            decoding = pool.start(item)
            assert decoding is not None
            wait_until(decoding.done)
            assert isinstance(decoding.result(), Frames), decoding.result()
            decoding.release()
            before = pool._processes._pool
            for worker in _workers_of(before):
                worker.kill()
            wait_until(lambda before=before: not before.active)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of pebble's reading thread
def test_files_in_progress_when_the_pool_breaks_down_are_decoded_again(media):
    """The one that a worker has, and those that wait for one."""
    size = (64, 64)
    items = [MediaItem(path, "image", path.name, path.with_suffix(".txt"), media) for path in media.glob("*.png")]
    with DecodePool(size, DecodeSettings(), clip_size=size, workers=1, pixel_bytes=1 << 20) as pool:
        in_progress = [decoding for item in items * 5 if (decoding := pool.start(item)) is not None]
        assert len(in_progress) >= 10
        pool._processes._pool._pool_manager.handle_broken_pool(BrokenProcessPool("All workers expired"))
        for decoding in in_progress:
            wait_until(decoding.done)
            assert isinstance(decoding.result(), Frames), decoding.result()


def test_a_worker_that_dies_as_it_starts_a_task_is_reported(monkeypatch):
    """Even if the pool learns of the death before it reads that the worker has the task."""
    pool = WorkerPool(2, 1 << 30, timeout_s=30)
    sleeping = pool.start(time.sleep, 60)
    wait_until(sleeping.future.running)
    read_message, reads_late = PoolManager.process_next_message, threading.Event()

    def read_late(self, timeout):
        reads_late.set()
        time.sleep(0.4)
        read_message(self, timeout)

    monkeypatch.setattr(PoolManager, "process_next_message", read_late)
    reads_late.wait()
    with pytest.raises(WorkerError, match="exit code 3"):
        pool.start(os._exit, 3).result()
    pool.close()


def _workers_of(pool) -> list[psutil.Process]:
    return [psutil.Process(worker.pid) for worker in pool._pool_manager.worker_manager.workers.values()]
