"""Past one machine: real Ray, two actors and more on this one."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gemma_captioner.cli.caption import Terminated, terminate
from gemma_captioner.config.run import ClusterSettings
from gemma_captioner.config.selection import SelectionSettings
from gemma_captioner.dataset.discover import Discovery, resolve_roots
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.errors import StartError
from gemma_captioner.executors.ray.completed import CompletedItems
from gemma_captioner.executors.ray.driver import BatchQueue
from gemma_captioner.executors.ray.resources import _defer_signals, plan_actors
from gemma_captioner.types import Captioned, Failed
from tests.support.files import captions, journal
from tools.torture.cluster import run_chaos

LOCAL = ("--cluster", "local", "--actors", 2)


@pytest.mark.parametrize(
    ("engine", "files"),
    [
        pytest.param("scripted", 12, marks=pytest.mark.long),
        pytest.param("demo", 24, marks=pytest.mark.prove),
        pytest.param("demo", 500, marks=pytest.mark.prove),
    ],  # docs/cluster.md
)
@pytest.mark.timeout(900)  # took over 200 s on two cores that did much else
def test_two_actors_do_what_one_machine_does(command, tmp_path, script, engine, files):
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    draw_samples(alone, images=files * 3 // 4, clips=files // 4, seed=11)
    next(alone.glob("01*")).write_bytes(b"no image")
    next(alone.glob("03*")).with_suffix(".txt").write_text("mine")
    first = next(alone.glob("05*.png"))
    shutil.copy2(first, first.with_suffix(".webp"))  # these two would share a caption
    shutil.copytree(alone, spread, copy_function=shutil.copy2)
    words = ("--json", *(("--model", "demo") if engine == "demo" else ("--engine", "scripted", "--model", script())))
    expected = command("caption", alone, *words, timeout=400)
    done = command("caption", spread, *words, *LOCAL, timeout=400)
    assert done.code == expected.code == 3, done.err
    assert captions(spread) == captions(alone)
    assert len(captions(spread)) == files - 2 and done.json["skipped"] == 1
    assert _told(done.json, spread) == _told(expected.json, alone)
    assert _kept(spread) == _kept(alone)
    assert re.search(r"actors?, busy \d+", done.err)


def _told(said, folder: Path) -> dict:
    failures = sorted((str(Path(f["path"]).relative_to(folder)), f["error"]) for f in said["failures"])
    return {key: said[key] for key in ("captioned", "skipped", "failed", "flagged")} | {"failures": failures}


def _kept(folder: Path) -> list[str]:
    """What the journal keeps of each file, but for times."""
    lines = [line for line in journal(folder) if line["kind"] != "run"]
    return sorted(json.dumps({k: v for k, v in line.items() if k not in ("at", "seconds", "media")}) for line in lines)


@pytest.mark.long
@pytest.mark.timeout(900)  # took over 210 s on two cores that did much else
def test_a_file_that_kills_its_actor_fails_alone(command, media, script):
    poison = next(media.glob("02*")).name
    model = script(replies={poison: {"kills": True}})
    words = ("--engine", "scripted", "--model", model, "--json", "--cluster", "local", "--actors", 1)
    few = ("--include", "0[12]*", "--attempts", 1)  # each death costs the start of an actor
    done = command("caption", media, *words, *few, timeout=800)
    assert (done.code, done.json["captioned"]) == (3, 1), done.err
    [failure] = done.json["failures"]
    assert Path(failure["path"]).name == poison and "died 2 times" in failure["error"]


@pytest.mark.parametrize(("files", "every_s", "driver_kills"), [(240, 10, 2), (2000, 4, 2)])  # docs/cluster.md
@pytest.mark.prove
def test_whatever_dies_each_file_has_one_outcome(files, every_s, driver_kills):
    ended = run_chaos(files=files, actors=2, every_s=every_s, driver_kills=driver_kills, seed=3)
    assert (ended.lost, ended.wrong, ended.left, ended.exit_code) == (0, 0, 0, 3), ended
    assert ended.actors_killed and ended.endings[0] == -9
    assert all(code in (130, -2) for code in ended.endings[1:])  # -2: while Python was still importing
    assert ended.repeated <= ended.actors_killed + 2 * driver_kills, ended
    [poison] = [
        failure["error"]
        for failure in ended.summary["failures"]
        if "captioned this file alone died" in failure["error"]
    ]
    assert "died 2 times" in poison and "Worker unexpectedly exits" in poison


@pytest.mark.parametrize(
    ("number", "comes"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)], ids=["int", "term"]
)
def test_a_signal_waits_until_ray_has_started(number, comes):
    before = signal.signal(signal.SIGTERM, terminate)
    reached = []
    try:
        with pytest.raises(comes), _defer_signals():
            signal.raise_signal(number)
            reached.append("the end of what must not be disturbed")
        signal.signal(signal.SIGTERM, terminate)  # it hears one
        with pytest.raises(Terminated), _defer_signals():
            sys.exit(15)  # as Ray does at SIGTERM
        assert reached
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ray_that_is_not_there_is_told_in_one_line(command, media):
    done = command("caption", media, "--model", "demo", "--cluster", "ray://127.0.0.1:1")
    assert done.code == 1 and "--cluster ray://127.0.0.1:1: cannot connect to Ray" in done.err
    assert captions(media) == {}


def test_ray_that_is_not_installed_names_the_extra(command, media, tmp_path):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('no ray')")
    done = command("caption", media, "--model", "demo", *LOCAL, env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 1 and "pip install 'gemma-captioner[cluster]'" in done.err


def test_a_finished_folder_wants_no_ray(command, media, tmp_path):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError('no ray')")
    for path in [*media.iterdir()]:
        path.with_suffix(".txt").write_text("mine")
    done = command("caption", media, "--model", "demo", "--json", *LOCAL, env={"PYTHONPATH": str(tmp_path)})
    assert (done.code, done.json["skipped"]) == (0, 8)


BOX = {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "wanted", "crew"),
    [
        ([BOX], {}, (8, 6.4, 1)),
        ([BOX], {"gpus_per_actor": 0.5}, (16, 3.2, 0.5)),
        ([BOX], {"gpus_per_actor": 4}, (2, 25.6, 4)),
        ([BOX, {"CPU": 16.0, "GPU": 8.0}, {"CPU": 4.0}], {}, (16, 1.6, 1)),  # the poorest place decides
        ([{"CPU": 2.0}], {}, (1, 1.6, 0)),
        ([{"CPU": 2.0}], {"actors": 8}, (8, 0.2, 0)),
        ([BOX], {"gpus_per_actor": 0}, (16, 3.2, 0)),
        ([{"CPU": 2.0}], {"actors": 3, "gpus_per_actor": 1}, (3, 1.0, 1)),  # nodes that an autoscaler will bring
    ],
)
def test_what_each_actor_gets(nodes, wanted, crew):
    got = plan_actors(nodes, ClusterSettings(**wanted))
    assert (got.actors, got.cpus, got.gpus) == crew


def test_gpus_that_are_not_there(command, media):
    with pytest.raises(StartError, match="--gpus-per-actor"):
        plan_actors([BOX], ClusterSettings(gpus_per_actor=16))
    done = command("caption", media, "--cluster", "local", "--gpus-per-actor", 1.5)
    assert done.code == 2 and "give a fraction below 1, or a whole number" in done.err


def items_of(folder: Path):
    return [found.item for found in Discovery(resolve_roots([folder], None), SelectionSettings())]


def test_few_files_are_spread_over_all_actors(media):
    items = items_of(media)
    packed = BatchQueue()
    for item in items:
        packed.add(item)
    packed.close()
    assert len(packed.batches) == 1
    packed.split_for(4)
    assert [list(packed.items([i])) for i in range(8)] == [[item] for item in items]


def test_what_a_dead_actor_finished_is_taken_from_its_journal(command, media, script):
    refused = next(media.glob("02*")).name
    command("caption", media, "--engine", "scripted", "--model", script(replies={refused: {"error": "refused"}}))
    [run] = (media / ".gemma-captioner" / "runs").iterdir()
    run.rename(run.with_name("RUN.1234.jsonl"))
    next(media.glob("03*.txt")).write_text("edited")
    next(media.glob("04*.txt")).unlink()
    got = [CompletedItems("RUN").outcome(item) for item in items_of(media)]
    assert [type(outcome) for outcome in got[:4]] == [Captioned, Failed, type(None), type(None)]
    assert got[0].caption == got[0].item.caption_path.read_text() and got[0].captions == (got[0].caption,)
    assert got[1].error == "refused"
    assert CompletedItems("OTHER").outcome(items_of(media)[0]) is None


ISOLATED = """
import sys
from pathlib import Path
from gemma_captioner.config.run import ClusterSettings
from gemma_captioner.config.settings import Settings
from gemma_captioner.executors.ray.isolation import isolate_retry
from gemma_captioner.executors.ray.resources import connect
from gemma_captioner.executors.ray.worker import WorkerConfig
from tests.test_cluster import items_of

media, script = sys.argv[1:]
config = WorkerConfig("RUN", Settings.from_dict({"engine": "scripted", "model": script}), stores=1)
with connect(ClusterSettings(cluster="local", actors=1)) as resources:
    for result in isolate_retry(items_of(Path(media))[:1], config, resources):
        print(*(type(outcome).__name__ for outcome in result.outcomes))
"""


@pytest.mark.prove
def test_a_lost_file_that_was_finished_keeps_its_outcome(command, media, script):
    """Its actor died after the caption was stored: it is captioned, not skipped, and has no second row or record."""
    command("caption", media, "--engine", "scripted", "--model", script())
    [run] = (media / ".gemma-captioner" / "runs").iterdir()
    run.rename(run.with_name("RUN.1234.jsonl"))
    words = [sys.executable, "-c", ISOLATED, str(media), str(script())]
    root = Path(__file__).parents[1]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, cwd=root)
    assert done.stdout.split() == ["Captioned"], done.stderr
