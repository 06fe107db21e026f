"""Labeled media before an item's own frames: the sources of an edit, and references to whom or what images show."""

import base64
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from gemma_captioner import Captioned, Failed, Settings, StartError, UsageError, caption
from gemma_captioner.check.pairs import PAIR_RULES
from gemma_captioner.dataset.discover import resolve_roots
from gemma_captioner.demo.samples import draw_samples
from gemma_captioner.engines.local.checkpoint import DEMO_CHECKPOINT
from gemma_captioner.engines.local.engine import LocalEngine
from gemma_captioner.engines.scripted import Script, ScriptedEngine, ScriptedSession
from gemma_captioner.media.pool import DecodePool
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.prompts.examples import read_examples
from gemma_captioner.review.library import Library
from gemma_captioner.review.proposals import Proposals
from gemma_captioner.review.runs import RunController
from gemma_captioner.types import ContextPart, MediaItem, Request
from tests.support.engines import request
from tests.support.files import captions, journal
from tests.support.servers import HttpRequest, HttpResponse, StubServer, echo_prompt

SHADES = {"a": 10, "a_0": 60, "a_1": 110, "b": 160, "red_hat": 200, "Mara": 220, "Mara-2": 240}


def image(path: Path, shade: int, size: tuple[int, int] = (32, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade,) * 3).save(path)
    return path


def clip(path: Path) -> Path:
    """One of the drawn clips, under this name."""
    place = path.parent / ".drawn"
    draw_samples(place, images=0, clips=1, seed=len(path.stem))
    path.unlink(missing_ok=True)
    shutil.move(next(place.glob("*.mp4")), path)
    shutil.rmtree(place)
    return path


class Listening(ScriptedEngine):
    """Records the requests."""

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(script)
        self.asked: list[Request] = []

    def open(self) -> ScriptedSession:
        asked = self.asked

        class Session(ScriptedSession):
            def submit(self, request: Request) -> None:
                asked.append(request)
                super().submit(request)

        return Session(self.script)

    def seen(self) -> dict[str, list[tuple[str, int]]]:
        """File -> the label and the shade of each picture, in order."""
        return {
            request.item.name: [
                *((part.text, int(part.frames.pixels[0, 0, 0, 0])) for part in request.context if part.frames),
                (request.label, int(request.frames.pixels[0, 0, 0, 0])),
            ]
            for request in self.asked
        }


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Targets a, a_1 and b in targets/; in control/ the sources a, a_0 of a, a_1 of a_1, and b_0, b_10, b_2 of b."""
    for name, shade in (("a.png", 1), ("a_1.jpg", 2), ("b.png", 3)):
        image(tmp_path / "targets" / name, shade)
    for name, shade in (("a.jpg", 11), ("a_0.png", 12), ("a_1.webp", 13), ("b_0.png", 14), ("b_10.png", 15)):
        image(tmp_path / "control" / name, shade)
    image(tmp_path / "control" / "b_2.png", 16)
    return tmp_path


def test_the_sources_of_each_target_come_before_it_by_the_trainers_names(pairs):
    engine = Listening()
    outcomes = list(caption(pairs / "targets", engine=engine, control=pairs / "control"))
    assert all(isinstance(outcome, Captioned) for outcome in outcomes), outcomes
    assert {name: [(label, round(shade)) for label, shade in seen] for name, seen in engine.seen().items()} == {
        "a.png": [("Source image 1:", 11), ("Source image 2:", 12), ("Edited image:", 1)],
        "a_1.jpg": [("Source image:", 13), ("Edited image:", 2)],
        "b.png": [("Source image 1:", 14), ("Source image 2:", 16), ("Source image 3:", 15), ("Edited image:", 3)],
    }
    assert {request.prompt[:50] for request in engine.asked} == {"You see one or more source images, then the result"}
    assert set(captions(pairs)) == {"targets/a.txt", "targets/a_1.txt", "targets/b.txt"}
    [record] = [r for r in journal(pairs / "targets") if r.get("path") == "b.png"]
    assert record["sources"] == ["b_0.png", "b_2.png", "b_10.png"]


def test_several_folders_give_their_sources_in_turn_and_a_folder_inside_is_not_captioned(tmp_path):
    for name in ("a.png", "deep/a.png", "deep/control/a.png"):  # the last is no folder of --control
        image(tmp_path / "data" / name, 1)
        image(tmp_path / "data" / "control" / name, 11)
        image(tmp_path / "second" / name, 12)
    engine = Listening()
    folders = [tmp_path / "data" / "control", tmp_path / "second"]
    outcomes = list(caption(tmp_path / "data", engine=engine, control=folders, recursive=True))
    names = {"a.png", "deep/a.png", "deep/control/a.png"}
    assert {outcome.item.name for outcome in outcomes} == names == set(engine.seen())
    assert engine.seen()["deep/a.png"] == [("Source image 1:", 11), ("Source image 2:", 12), ("Edited image:", 1)]


def test_clips_have_sources_of_either_kind(tmp_path):
    for place in ("targets/a.mp4", "control/a.mp4", "targets/b.mp4"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        clip(tmp_path / place)
    image(tmp_path / "control" / "b.png", 9)
    engine = Listening()
    assert all(
        isinstance(o, Captioned)
        for o in caption(tmp_path / "targets", engine=engine, control=tmp_path / "control", frames=4)
    )
    asked = {request.item.name: request for request in engine.asked}
    assert [(p.text, len(p.frames.pixels)) for p in asked["a.mp4"].context] == [("Source clip:", 4)]
    assert [(p.text, len(p.frames.pixels)) for p in asked["b.mp4"].context] == [("Source image:", 1)]
    assert {request.label for request in engine.asked} == {"Edited clip:"}


def test_an_animated_source_gets_the_memory_that_it_needs(tmp_path):
    image(tmp_path / "targets" / "a.png", 1)
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 90, 180)]
    (tmp_path / "control").mkdir()
    frames[0].save(tmp_path / "control" / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    engine = Listening()
    [outcome] = caption(tmp_path / "targets", engine=engine, control=tmp_path / "control", frames=3)
    assert isinstance(outcome, Captioned)
    [part] = engine.asked[0].context
    assert part.text == "Source clip:" and part.frames.pixels[:, 0, 0, 0].tolist() == [0, 90, 180]


def test_files_that_need_more_memory_never_wait_for_each_other(tmp_path):
    """With room for four pairs of images, whose sources turn out to be animated."""
    target = image(tmp_path / "a.png", 1, (16, 16))
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 90, 180)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:], duration=100)
    pair = [MediaItem(path, "image", path.name, path, tmp_path) for path in (target, tmp_path / "b.gif")]
    room = {"pixel_bytes": 8 * 16 * 16 * 3, "files_per_task": 2, "workers": 1}
    with DecodePool((16, 16), DecodeSettings(frames=3), clip_size=(16, 16), **room) as pool:
        tasks = [task for _ in range(5) if (task := pool.start(*pair)) is not None]
        assert len(tasks) == 4
        deadline = time.monotonic() + 60
        while tasks:
            assert time.monotonic() < deadline
            for task in [task for task in tasks if task.done()]:
                assert [len(result.pixels) for result in task.results()] == [1, 3]
                task.release()
                tasks.remove(task)
            time.sleep(0.005)


def spoil(control: Path, how: str) -> None:
    match how:
        case "missing":
            (control / "a.jpg").unlink()
        case "unreadable":
            (control / "a.jpg").write_bytes(b"\xff\xd8 no image")
        case "twice":
            image(control / "a.png", 5)
        case "number twice":
            image(control / "a_00.png", 5)
        case "clip":
            clip(control / "a_5.mp4")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "has no source image in {control}: add one named a.*"),
        ("unreadable", "its source {control}/a.jpg: cannot read this image"),
        ("twice", "have the same name or number: remove one"),
        ("number twice", "{control}/a_0.png and {control}/a_00.png have the same name or number"),
        ("clip", "its source {control}/a_5.mp4 is a clip"),
    ],
)
def test_a_source_that_cannot_be_used_fails_its_target_alone(pairs, how, says):
    control = pairs / "control"
    if how == "missing":
        (control / "a_0.png").unlink()
    spoil(control, how)
    outcomes = {o.item.name: o for o in caption(pairs / "targets", engine=ScriptedEngine(), control=control)}
    assert isinstance(outcomes["a.png"], Failed) and says.format(control=control) in outcomes["a.png"].error
    assert set(captions(pairs)) == {"targets/a_1.txt", "targets/b.txt"}


def test_the_dry_run_reports_what_is_wrong_with_pairs(pairs, command, script):
    image(pairs / "control" / "c.png", 4)
    (pairs / "control" / "a_1.webp").unlink()
    shutil.copy(pairs / "targets" / "b.png", pairs / "control" / "b_0.png")
    words = ("caption", pairs / "targets", "--engine", "scripted", "--model", script(), "--dry-run")
    done = command(*words, "--control", pairs / "control", "--json")
    [failure] = done.json["failures"]
    assert failure["path"].endswith("a_1.jpg") and "has no source image" in failure["error"] and done.code == 3
    assert done.json["notes"] == [
        "1 file identical to a source, so nothing changes: b.png",
        "1 source of no file, by name: c.png",
    ]
    assert done.json["images"] == 2
    same = command(*words, "--control", pairs / "targets")
    assert same.code == 2 and "is the folder to caption" in same.err
    nowhere = command(*words, "--control", pairs / "nowhere")
    assert nowhere.code == 2 and "nowhere is not a folder: give the folder" in nowhere.err


def test_a_changed_source_makes_its_caption_stale(pairs):
    def run(**more: object) -> dict[str, str]:
        engine = ScriptedEngine()
        options = {"control": pairs / "control", "existing": "stale"} | more
        outcomes = caption(pairs / "targets", engine=engine, **options)
        return {outcome.item.name: type(outcome).__name__ for outcome in outcomes}

    assert set(run().values()) == {"Captioned"}
    assert set(run().values()) == {"Skipped"}
    image(pairs / "control" / "b_2.png", 99, (8, 8))
    assert run() == {"a.png": "Skipped", "a_1.jpg": "Skipped", "b.png": "Captioned"}
    assert set(run(control=[pairs / "control", pairs / "control"]).values()) == {"Captioned"}  # other settings


def test_a_setting_at_its_default_leaves_the_hash(tmp_path):
    plain = Settings.from_dict({"model": "demo", "prompt": "Say."})
    shown = Settings.from_dict({"model": "demo", "prompt": "Say.", "examples": "nowhere/lines.txt"})
    assert shown.settings_hash("image") == "ace6ff6cd6d629db"
    assert plain.settings_hash("image") == "7c1bd727665f1833"  # of the version before there were sources
    one, other = (Settings.from_dict({"model": "demo", "prompt": "Say.", "control": tmp_path / n}) for n in "ab")
    assert plain.settings_hash("image") != one.settings_hash("image") == other.settings_hash("image")
    dumped = one.model_dump(mode="json", by_alias=True)["prompting"]
    assert dumped["control"] == str(tmp_path / "a") and dumped["examples"] is None


def test_resuming_limits_and_failures_go_on_with_sources(pairs, command, script):
    words = ("caption", pairs / "targets", "--engine", "scripted", "--model", script(), "--control", pairs / "control")
    assert command(*words, "--limit", 1, "--json").json["captioned"] == 1
    (pairs / "control" / "a_1.webp").rename(pairs / "a_1.webp")
    assert command(*words, "--json").json["failed"] == 1
    (pairs / "a_1.webp").rename(pairs / "control" / "a_1.webp")
    done = command(*words, "--only", "failed", "--json")
    assert (done.json["captioned"], done.code) == (1, 0)
    assert command(*words, "--json").json["skipped"] == 3


LABELS = {
    "a": "Source image 1: Source image 2: Edited image:", "a_1": "Source image: Edited image:",
    "b": "Source image 1: Source image 2: Source image 3: Edited image:",
}  # fmt: skip


def test_compare_shows_the_model_the_sources(pairs, command, script):
    shutil.move(pairs / "control", pairs / "targets" / "control")
    words = ("compare", pairs / "targets", "--engine", "scripted", "--model", script(default="{labels}"), "--recursive")
    done = command(*words, "--control", pairs / "targets" / "control", "-p", "What?", "-p", "And?", "--json")
    assert done.json["files"] == 3, done.err
    for variant in done.json["variants"]:
        assert {Path(f["path"]).stem: f["caption"] for f in variant["captions"]} == LABELS


def test_the_review_page_captions_again_with_sources(pairs, script):
    settings = Settings.from_dict(
        {"engine": "scripted", "model": str(script(default="{labels}")), "control": pairs / "control"}
    )
    [root] = resolve_roots([pairs / "targets"], None)
    library = Library(root, settings)
    library.refresh()
    proposals = Proposals(library)
    runs = RunController(library, proposals)
    for start in (lambda: runs.caption_folder(settings), lambda: runs.propose(list(library.present()), settings)):
        assert start()
        runs._thread.join(60)
        assert (runs.state, runs.error, runs.stats.done) == ("finished", "", 3)
    assert {Path(name).stem: said for name, said in captions(pairs / "targets").items()} == LABELS


@pytest.mark.prove
def test_actors_get_sources_and_references(pairs, cast, command, script):
    words = ("caption", "targets", "--engine", "scripted", "--model", script(default="{labels}"), "--cluster", "local")
    done = command(*words, "--actors", 1, "--control", "control", "--examples", "cast", "--json", cwd=pairs)
    assert done.json["captioned"] == 3, done.err
    said = captions(pairs / "targets")["a_1.txt"]
    assert said.startswith("This is Mara: This is Mara, too: This is red hat: Call those that appear below by name")
    assert said.endswith("Source image: Edited image:")


# What the engines make of it


@pytest.mark.parametrize("order", ["media-first", "text-first"])
def test_labeled_media_is_in_the_turn_of_the_item_as_transformers_writes_it(order):
    """Token for token, soft tokens of the frames included."""
    source, own = request(1).frames, request(2, num_frames=2, prompt="What changes?")
    example = ContextPart("What changes?", "Nothing.", request(3).frames)
    context = (example, ContextPart("Source image:", frames=source, is_shared=False))
    asked = replace(own, label="Edited clip:", context=context)
    image, said = {"type": "image"}, {"type": "text", "text": "What changes?"}
    before, after = {"type": "text", "text": "Source image:"}, {"type": "text", "text": "Edited clip:"}
    last = [before, image, after, image, image, said]
    if order == "text-first":
        last = [{"type": "text", "text": "What changes?\nSource image:"}, image, after, image, image]
    processor = AutoProcessor.from_pretrained(DEMO_CHECKPOINT, backend="pil")
    text = processor.apply_chat_template(
        [
            {"role": "user", "content": [image, said] if order == "media-first" else [said, image]},
            {"role": "assistant", "content": [{"type": "text", "text": "Nothing."}]},
            {"role": "user", "content": last},
        ],
        add_generation_prompt=True, tokenize=False,
    )  # fmt: skip
    images = [Image.fromarray(p) for f in (example.frames, source, own.frames) for p in f.pixels]
    expected = processor(text=text, images=images, add_special_tokens=False)
    with LocalEngine(Settings.from_dict({"model": "demo", "order": order})).open() as session:
        assert session.encode_prompt(asked) == expected["input_ids"][0]
        read = np.concatenate(
            [session.vision.normalize(torch.from_numpy(frames.pixels)).numpy() for frames in asked.all_frames]
        )
        assert np.allclose(read, np.stack(list(expected["pixel_values"])), atol=1e-6)


def test_a_server_gets_labels_and_pictures_in_order(pairs, cast):
    rule = recording(asked := [])
    with StubServer(rule) as stub:
        server = {"engine": "server", "base_url": stub.url, "model": "m", "image_size": 16, "image_format": "png"}
        options = {"control": pairs / "control", "examples": cast, "prompt": "What changes?"}
        [outcome] = caption(pairs / "targets" / "b.png", **server, **options)
        assert isinstance(outcome, Captioned)
        [message] = asked[-1]["messages"]
        assert [told(part) for part in message["content"]] == [
            "This is Mara:", 220, "This is Mara, too:", 240, "This is red hat:", 200,
            "Call those that appear below by name (Mara, red hat), and leave out the others.\nSource image 1:", 14,
            "Source image 2:", 16, "Source image 3:", 15, "Edited image:", 3, "What changes?",
        ]  # fmt: skip


def recording(asked: list[dict]) -> Callable[[HttpRequest], HttpResponse]:
    def rule(request: HttpRequest) -> HttpResponse:
        asked.append(request.json)
        return echo_prompt(request)

    return rule


def told(part: dict) -> str | int:
    """The text of a part, or the shade of its picture."""
    if part["type"] == "text":
        return part["text"]
    with Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))) as picture:
        return picture.getpixel((0, 0))[0]


# References


@pytest.fixture
def cast(tmp_path) -> Path:
    for name in ("Mara.png", "Mara-2.jpg", "red_hat.png"):
        image(tmp_path / "cast" / name, SHADES[Path(name).stem])
    return tmp_path / "cast"


def test_references_introduce_names_before_each_file(cast, media):
    engine = Listening()
    assert all(isinstance(o, Captioned) for o in caption(media, engine=engine, examples=cast))
    names = "Call those that appear below by name (Mara, red hat), and leave out the others.\n"
    for name, seen in engine.seen().items():
        kind = "clip" if name.endswith("mp4") else "image"
        assert [(label, round(shade, -1)) for label, shade in seen[:-1]] == [
            ("This is Mara:", 220), ("This is Mara, too:", 240), ("This is red hat:", 200),
        ]  # fmt: skip
        assert seen[-1][0] == f"{names}{kind.capitalize()} to describe:"
    assert len(engine.asked) == 8


def test_references_sources_and_written_examples_go_together(cast, pairs):
    (pairs / "lines.txt").write_text("Make it blue.\n")
    engine = Listening()
    examples = [pairs / "lines.txt", cast]
    list(caption(pairs / "targets" / "a_1.jpg", engine=engine, control=pairs / "control", examples=examples))
    [request] = engine.asked
    assert [(part.text[:15], part.answer) for part in request.context] == [
        (request.prompt[:15], "Make it blue."),
        ("This is Mara:", None), ("This is Mara, t", None), ("This is red hat", None), ("Call those that", None),
    ]  # fmt: skip
    assert request.context[-1].text.endswith("\nSource image:") and request.label == "Edited image:"


def test_a_number_counts_only_the_images_of_one_name(tmp_path, media):
    for name in ("Apollo-11.png", "tower 1.png", "tower 2.png", "R2-D2.png"):
        image(tmp_path / "cast" / name, 5)
    engine = Listening()
    list(caption(media, engine=engine, examples=tmp_path / "cast", limit=1))
    assert [part.text for part in engine.asked[0].context] == [
        "This is Apollo-11:", "This is R2-D2:", "This is tower:", "This is tower, too:",
    ]  # fmt: skip


def test_in_a_folder_with_captions_files_without_are_left_out(cast, media):
    (cast / "Mara.txt").write_text("Mara smiles.")
    engine = Listening()
    list(caption(media, engine=engine, examples=cast, include="*.png"))
    assert {(part.text, part.answer) for request in engine.asked for part in request.context} == {
        (engine.asked[0].prompt, "Mara smiles.")
    }


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Mara.webp", "has the same name as another file: number them, as in Mara-1.png and Mara-2.jpg"),
        ("<x>.png", "the model would read < as part of a token: rename the file"),
    ],
)
def test_references_with_a_wrong_name_are_refused(cast, media, name, says):
    image(cast / name, 5)
    with pytest.raises(UsageError) as caught:
        list(caption(media, engine=ScriptedEngine(), examples=cast))
    assert says in str(caught.value)


def test_a_clip_among_references_is_refused(cast, media):
    clip(cast / "Nils.mp4")
    with pytest.raises(UsageError, match=r"Nils.mp4 is a clip: references are images"):
        list(caption(media, engine=ScriptedEngine(), examples=cast))


def test_an_unreadable_reference_ends_the_run_before_it_begins(cast, media):
    (cast / "red_hat.png").write_bytes(b"no image")
    with pytest.raises(StartError, match=r"--examples: .*red_hat\.png: cannot read this image"):
        list(caption(media, engine=ScriptedEngine(), examples=cast))
    assert not captions(media)


def test_a_changed_reference_makes_captions_stale(cast, media):
    def run() -> set[str]:
        outcomes = caption(media, engine=ScriptedEngine(), examples=cast, existing="stale", include="*.png")
        return {type(outcome).__name__ for outcome in outcomes}

    assert [run(), run()] == [{"Captioned"}, {"Skipped"}]
    image(cast / "Mara.png", 7, (9, 9))
    assert [run(), run()] == [{"Captioned"}, {"Skipped"}]


def test_media_with_captions_cannot_be_examples_of_edits(cast, pairs):
    (cast / "Mara.txt").write_text("Mara smiles.")
    with pytest.raises(UsageError, match="cannot be combined with --control"):
        list(caption(pairs / "targets", engine=ScriptedEngine(), control=pairs / "control", examples=cast))


def test_the_dry_run_tells_what_references_cost(cast, media, command, script):
    words = ("caption", media, "--engine", "scripted", "--model", script(), "--dry-run", "--json", "--examples", cast)
    done = command(*words)
    assert "2 references (Mara, red hat): 3 images before each file, about 60 tokens" in done.json["notes"]


def test_more_references_than_the_context_bears_are_refused(media, tmp_path, command):
    words = ("caption", media, "--model", "demo", "--max-new-tokens", 8000, "--json", "--include", "*.png")
    words = (*words, "--examples", tmp_path / "cast")
    for number in range(9):
        image(tmp_path / "cast" / f"person{number}.png", number)
        if number == 0:
            assert command(*words, "--dry-run").json.get("error") is None
    for more in ((), ("--dry-run",)):
        done = command(*words, *more)
        assert done.code == 1 and "use fewer of them, or give the model a larger context" in done.json["error"]
    assert not captions(media)


# check and export


@pytest.fixture
def captioned(pairs) -> Path:
    """The pairs with captions; a has one source."""
    (pairs / "control" / "a_0.png").unlink()
    for name in ("a", "a_1", "b"):
        (pairs / "targets" / f"{name}.txt").write_text(f"Let Mara wear the hat of {name}.")
    return pairs


def found(command, folder: Path, *flags: object) -> set[tuple[str, str]]:
    done = command("check", folder, "--json", *flags)
    known = (*PAIR_RULES, "unreadable")
    return {(Path(f["path"]).name, f["code"]) for f in done.json["findings"] if f["code"] in known}


def test_check_finds_what_is_wrong_with_pairs(captioned, command):
    control, targets = captioned / "control", captioned / "targets"
    assert found(command, targets, "--control", control) == set()
    image(control / "c.png", 4)
    image(control / "deep" / "b.png", 4)  # in a folder that is searched only with --recursive
    (control / "a_1.webp").unlink()
    shutil.copy(targets / "b.png", control / "b_0.png")
    image(control / "a.jpg", 11, (24, 32))
    assert found(command, targets, "--control", control) == {
        ("a_1.jpg", "no_source"), ("c.png", "extra_source"), ("b.png", "same_as_source"), ("a.jpg", "source_aspect"),
    }  # fmt: skip
    assert command("check", targets, "--control", control).code == 3
    with Image.open(control / "a.jpg") as sideways:
        exif = sideways.getexif()
        exif[0x0112] = 6
        sideways.save(control / "a.jpg", exif=exif)
    assert ("a.jpg", "source_aspect") not in found(command, targets, "--control", control)


def test_check_waits_for_no_pipe(captioned, command):
    os.mkfifo(captioned / "pipe")
    (captioned / "control" / "a.jpg").unlink()
    (captioned / "control" / "a.jpg").symlink_to(captioned / "pipe")
    assert found(command, captioned / "targets", "--control", captioned / "control") == set()


@pytest.mark.parametrize(
    ("trainer", "codes"),
    [
        ("musubi", set()),
        ("musubi:flux-kontext", {("b.png", "several_sources")}),
        ("diffusion-pipe", {("b.png", "several_sources"), *((f"b_{n}.png", "source_name") for n in (0, 2, 10))}),
        ("ai-toolkit", {(f"b_{n}.png", "source_name") for n in (0, 2, 10)}),
        ("simpletuner", {("a.jpg", "source_name"), ("a_1.webp", "source_name"), ("b_0.txt", "source_caption"),
                         *((f"b_{n}.png", "source_name") for n in (0, 2, 10))}),
    ],
)  # fmt: skip
def test_check_tells_what_a_trainer_does_not_find(captioned, command, trainer, codes):
    (captioned / "control" / "b_0.txt").write_text("Something else.")
    assert found(command, captioned / "targets", "--control", captioned / "control", "--for", trainer) == codes


def test_check_reports_the_subfolders_in_which_simpletuner_finds_no_sources(captioned, command):
    for name in ("targets/deep/c.png", "control/deep/c.png"):
        image(captioned / name, 5)
    (captioned / "targets" / "deep" / "c.txt").write_text("Let Mara go.")
    words = (captioned / "targets", "--control", captioned / "control", "--recursive", "--for")
    assert ("c.png", "source_in_subfolder") in found(command, *words, "simpletuner")
    assert ("c.png", "source_in_subfolder") not in found(command, *words, "diffusion-pipe")


def test_check_lists_who_occurs_where(captioned, cast, command):
    (captioned / "targets" / "b.txt").write_text("Let MARA go. Tamara stays.")
    (captioned / "targets" / "a.txt").write_text("Let Tamara go.")
    done = command("check", captioned / "targets", "--examples", cast, "--json")
    assert {name: [Path(path).name for path in paths] for name, paths in done.json["names"].items()} == {
        "Mara": ["a_1.txt", "b.txt"], "red hat": [],
    }  # fmt: skip
    [unused] = [f for f in done.json["findings"] if f["code"] == "name_unused"]
    assert unused["what"].endswith(": red hat")
    printed = command("check", captioned / "targets", "--examples", cast).out
    assert "Mara: 2 captions: a_1.txt, b.txt" in printed and "red hat: 0 captions" in printed
    assert "names" not in command("check", captioned / "targets", "--json").json
    refused = command("check", captioned / "targets", "--examples", captioned / "targets")
    assert refused.code == 2 and "--examples: no names to look for" in refused.err


def exported(command, folder: Path, trainer: str, *flags: object) -> list[Path]:
    done = command("export", folder, "--for", trainer, *flags)
    assert done.code == 0, done.err
    return [path for line in done.out.splitlines() if (path := Path(line)).exists()]


def test_musubi_and_diffsynth_get_columns(captioned, command):
    control = captioned / "control"
    [path] = exported(command, captioned / "targets", "musubi", "--control", control)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [{k: Path(v).name for k, v in row.items() if k.startswith("control")} for row in rows] == [
        {"control_path": "a.jpg"}, {"control_path": "a_1.webp"},
        {"control_path_0": "b_0.png", "control_path_1": "b_2.png", "control_path_2": "b_10.png"},
    ]  # fmt: skip
    assert all(Path(path).is_absolute() for row in rows for path in row.values() if "/" in path)
    [path] = exported(command, captioned / "targets", "diffsynth", "--control", control)
    one, _, several = (row["edit_image"] for row in json.loads(path.read_text()))
    assert one == str(control / "a.jpg") and several == [str(control / f"b_{n}.png") for n in (0, 2, 10)]
    done = command("export", captioned / "targets", "--for", "diffsynth", "--control", control, "-o", "x.csv")
    assert done.code == 1 and "a .csv cannot hold" in done.err


@pytest.mark.parametrize(
    ("trainer", "links"),
    [
        ("ai-toolkit", {"": {"a.jpg": 11, "a_1.webp": 13, "b.png": 14}, "-2": {"b.png": 16}, "-3": {"b.png": 15}}),
        ("simpletuner", {"": {"a.png": 11, "a_1.jpg": 13, "b.png": 14}, "-2": {"b.png": 16}, "-3": {"b.png": 15}}),
        ("diffusion-pipe", {"": {"a.jpg": 11, "a_1.webp": 13}}),
    ],
)
def test_other_trainers_get_folders(captioned, command, trainer, links):
    targets, control = captioned / "targets", captioned / "control"
    flags = ("--control", control, *(("--exclude", "b.png") if trainer == "diffusion-pipe" else ()))
    for _ in range(2):  # again, over what is there
        paths = exported(command, targets, trainer, *flags)
        assert [path for path in paths if path.is_dir()] == [
            captioned / f"targets-{trainer}-control{number}" for number in links
        ]
    for number, of_folder in links.items():
        made = captioned / f"targets-{trainer}-control{number}"
        assert {path.name: shade_of(path) for path in made.iterdir()} == of_folder
    image(captioned / f"targets-{trainer}-control" / "a.bmp", 1)
    done = command("export", targets, "--for", trainer, *flags)
    assert done.code == 1 and "a.bmp would be taken for the source of another file: remove or rename it" in done.err


def test_simpletuner_finds_no_sources_of_subfolders(captioned, command):
    """It joins the folder of the sources and the bare name (get_conditioning_sample at bc8e6ab)."""
    for name in ("targets/deep/b.png", "control/deep/b.png"):
        image(captioned / name, 5)
    (captioned / "targets" / "deep" / "b.txt").write_text("Let Mara go.")
    words = ("export", captioned / "targets", "--for", "simpletuner", "--control", captioned / "control")
    done = command(*words, "--recursive")
    assert done.code == 1 and "b.png is in a subfolder, where simpletuner finds no sources" in done.err
    assert not list(captioned.glob("targets-simpletuner*"))
    assert command(*words).code == 0
    deep = [captioned / name / "deep" for name in ("targets", "control")]
    exported(command, deep[0], "simpletuner", "--control", deep[1])
    assert shade_of(captioned / "targets" / "deep-simpletuner-control" / "b.png") == 5


def shade_of(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.convert("RGB").getpixel((0, 0))[0]


@pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning")  # datasets
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_datasets_reads_the_sources_for_diffusers(captioned, command, tmp_path, monkeypatch):
    """As examples/dreambooth/train_dreambooth_lora_flux_kontext.py of diffusers does."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    targets, control = captioned / "targets", captioned / "targets" / "control"
    (captioned / "control").rename(control)
    done = command("export", targets, "--for", "huggingface", "--control", control)
    assert done.code == 1 and "has 3 sources, but huggingface reads one" in done.err
    exported(command, targets, "huggingface", "--control", control, "--exclude", "b.png")
    dataset = datasets.load_dataset(str(targets), cache_dir=str(tmp_path / "cache"))["train"]
    rows = [(r["image"].getpixel((0, 0))[0], r["control"].getpixel((0, 0))[0], r["text"]) for r in dataset]
    assert rows == [(1, 11, "Let Mara wear the hat of a."), (2, 13, "Let Mara wear the hat of a_1.")]


def test_an_export_without_a_source_fails_for_that_file(captioned, command):
    (captioned / "control" / "a.jpg").unlink()
    done = command("export", captioned / "targets", "--for", "musubi", "--control", captioned / "control")
    assert done.code == 3 and "has no source image" in done.err and "2 written, 1 failed" in done.err
    done = command("export", captioned / "targets", "--for", "sd-scripts", "--control", captioned / "control")
    assert done.code == 2 and "the export for sd-scripts has no sources of edits" in done.err


def test_sources_of_two_folders_never_share_a_stem_in_one_folder_of_links(command, tmp_path):
    for folder, suffix in (("day1", ".png"), ("day2", ".jpg")):
        for root, name in (("set", f"{folder}/a.png"), ("src", f"{folder}/a{suffix}")):
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), "red" if root == "src" else "blue").save(path)
        (tmp_path / "set" / folder / "a.txt").write_text("Make it blue.")
    words = ("export", "set", "--for", "ai-toolkit", "--recursive", "--control", "src", "--output", "out")
    done = command(*words, cwd=tmp_path)
    assert done.code == 1 and "source of another file" in done.err


def test_a_control_folder_with_brackets_in_its_name_is_no_target(command, tmp_path):
    for name in ("a.png", "src [v2]/a.png"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), "red" if "src" in name else "blue").save(path)
    (tmp_path / "script.json").write_text("{}")
    words = (
        "caption",
        "set",
        "--recursive",
        "--control",
        "set/src [v2]",
        "--engine",
        "scripted",
        "--model",
        "script.json",
    )
    assert command(*words, "--json", cwd=tmp_path).json["captioned"] == 1


def test_references_without_a_name_and_empty_lists_are_refused(tmp_path):
    (tmp_path / "lines.txt").write_text("A cat.")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match=r"empty\.txt has nothing to show"):
        read_examples([tmp_path / "lines.txt", tmp_path / "empty.txt"])
    (tmp_path / "cast").mkdir()
    for number in (1, 2):
        Image.new("RGB", (8, 8)).save(tmp_path / "cast" / f"-{number}.png")
    with pytest.raises(UsageError, match="names nobody"):
        read_examples([tmp_path / "cast"])
