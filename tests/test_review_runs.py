"""Runs that the review page starts, without a browser."""

import json
import threading
from collections.abc import Callable, Generator

import pytest
from PIL import Image

from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import Root
from gemma_captioner.engines.scripted import ScriptedEngine
from gemma_captioner.errors import ModelError
from gemma_captioner.review.library import Library
from gemma_captioner.review.proposals import Proposals
from gemma_captioner.review.runs import RunController, State
from gemma_captioner.types import Failed, Outcome, Skipped
from tests.support.files import captions

_MOMENT_S = 0.2  # the other thread waits for the lock that long


@pytest.fixture
def library(tmp_path) -> Library:
    folder = tmp_path / "set"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    library = Library(Root(folder, folder, folder), Settings())
    library.refresh()
    return library


def wait_for_end(runs: RunController) -> None:
    assert runs._thread is not None
    runs._thread.join(60)
    assert not runs._thread.is_alive()


def test_a_model_that_could_not_be_loaded_is_loaded_by_the_next_run(library, tmp_path, monkeypatch):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"default": "A cat."}))
    settings = Settings.from_dict({"engine": "scripted", "model": str(script)})
    runs, faults, open_session = (
        RunController(library, Proposals(library)),
        ["no disk space", "no memory"],
        ScriptedEngine.open,
    )

    def open_or_fail(engine: ScriptedEngine) -> object:
        if faults:
            raise ModelError(faults.pop(0))
        return open_session(engine)

    monkeypatch.setattr(ScriptedEngine, "open", open_or_fail)
    for state, error in (("failed", "no disk space"), ("failed", "no memory"), ("finished", "")):
        assert runs.caption_folder(settings)
        wait_for_end(runs)
        assert (runs.state, runs.error) == (state, error)
    assert captions(library.root.folder) == {"a.txt": "A cat."}
    runs.close()


class _Interleaved(RunController):
    """Calls `between` once, right after a thread of this name has read this state."""

    after: tuple[str, State] | None = None
    between: Callable[[], None]

    @property
    def state(self) -> State:
        state = self._state
        if self.after == (threading.current_thread().name, state):
            self.after = None
            self.between()
        return state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    def start(self, first: threading.Event, end: threading.Event) -> None:
        """Start a run with one outcome, after which `first` is set. It ends once `end` is."""
        item = self._library[0].item

        def outcomes() -> Generator[Outcome]:
            yield Skipped(item, "")
            first.set()
            assert end.wait(60)

        assert self._start("captioning", outcomes)


@pytest.fixture
def runs(library) -> _Interleaved:
    return _Interleaved(library, Proposals(library))


def test_a_stop_while_the_first_outcome_comes_is_not_lost(runs):
    end = threading.Event()
    stopper, is_stopping = threading.Thread(target=runs.stop), threading.Event()

    def stop() -> None:
        stopper.start()
        stopper.join(_MOMENT_S)
        is_stopping.set()

    runs.after, runs.between = ("captioning", "starting"), stop
    runs.start(threading.Event(), end)
    assert is_stopping.wait(60)
    stopper.join(60)
    end.set()
    wait_for_end(runs)
    assert runs.state == "stopped"


def test_a_pause_while_the_run_ends_leaves_no_paused_run(runs):
    first, end = threading.Event(), threading.Event()
    runs.start(first, end)
    assert first.wait(60)

    def finish() -> None:
        end.set()
        runs._thread.join(_MOMENT_S)

    runs.after, runs.between = (threading.current_thread().name, "running"), finish
    runs.pause()
    wait_for_end(runs)
    assert runs.state == "finished"
    runs.stop()
    assert runs.state == "finished"


def test_a_paused_run_goes_on_or_stops(library):
    for go_on, state in ((RunController.resume, "finished"), (RunController.stop, "stopped")):
        runs = RunController(library, Proposals(library))
        runs.changed = runs.pause

        def outcomes() -> Generator[Outcome]:
            yield Failed(library[0].item, "")

        assert runs._start("captioning", outcomes)
        while runs.state != "paused":
            runs._thread.join(0.01)
        assert runs._thread.is_alive()
        go_on(runs)
        wait_for_end(runs)
        assert runs.state == state
