"""What the review page tells of files and structured captions, without a browser."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gemma_captioner.config.formats import format_spec
from gemma_captioner.config.settings import Settings
from gemma_captioner.dataset.discover import Root
from gemma_captioner.errors import ItemError
from gemma_captioner.media.audio import decode_audio
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import read_timeline
from gemma_captioner.review.changes import normalize_caption
from gemma_captioner.review.facts import (
    WAVEFORM_PARTS,
    FrameStrip,
    MediaFacts,
    describe_bytes,
    describe_facts,
    facts_from,
    peaks,
    read_facts,
    read_waveform,
)
from gemma_captioner.review.library import Library
from gemma_captioner.review.media import Media
from gemma_captioner.review.page.toolbar import folder_counts
from gemma_captioner.review.structure import problem_of, structure_of
from gemma_captioner.review.totals import Totals
from gemma_captioner.types import MediaItem
from tests.support import clips, sound

BURST_AT_S = 1.5


def item(path: Path) -> MediaItem:
    kind = "image" if path.suffix in (".png", ".jpg", ".tiff") else "clip"
    return MediaItem(path, kind, path.name, path.with_suffix(".txt"), path.parent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures too large to send as they are, clips with and without sound, and an edited picture with its sources."""
    folder = tmp_path_factory.mktemp("facts") / "set"
    (folder / "sources").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    Image.fromarray(noise).save(folder / "large.jpg", quality=95)
    Image.fromarray(noise).save(folder / "large.tiff")
    for place in (0, 1):
        Image.new("RGB", (40, 30), "red").save(folder / "sources" / f"large_{place}.png")
    tone = sound.bursts(2.0, [BURST_AT_S])
    sound.write_clip(folder / "loud.mp4", range(48), [("aac", 48_000, tone)])
    sound.write_clip(folder / "old.avi", range(48), [("pcm_s16le", 48_000, tone)], codec="mpeg4")
    clips.write(folder / "mute.mp4", list(range(24)))
    return folder


@pytest.fixture
def media(folder, tmp_path) -> Iterator[Media]:
    settings = Settings.from_dict({"control": [folder / "sources"], "name": "full"})
    library = Library(Root(folder, folder, folder), settings)
    library.refresh()
    media = Media(library, DecodeSettings(), 1, tmp_path / "cache")
    media.number = {entry.name: entry.number for entry in library.entries}
    yield media
    media.close()


def test_facts_of_a_file(folder):
    facts = read_facts(item(folder / "loud.mp4"))
    assert facts == MediaFacts(160, 64, (folder / "loud.mp4").stat().st_size, 48, 24.0, 2.0, (48_000, 2))
    assert facts_from(json.loads(json.dumps({name: getattr(facts, name) for name in facts.__slots__}))) == facts
    assert describe_facts(facts).startswith("160 \u00d7 64 \u00b7 2.00 s \u00b7 24 fps \u00b7 48 frames \u00b7 ")
    assert describe_facts(facts).endswith("sound: 48 kHz stereo")
    assert describe_facts(read_facts(item(folder / "mute.mp4"))).endswith("no sound")
    picture = describe_facts(read_facts(item(folder / "large.jpg")))
    assert picture.startswith("2000 \u00d7 1500 \u00b7 ") and "sound" not in picture and "fps" not in picture
    (folder.parent / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ItemError):
        read_facts(item(folder.parent / "broken.png"))


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 kB"), (900, "0.9 kB"), (3_240_000, "3.2 MB"), (64_000_000, "64 MB"), (999_900, "1 MB")]
)
def test_sizes_are_short(size, text):
    assert describe_bytes(size) == text


def test_a_waveform_shows_when_it_is_loud(folder):
    levels = read_waveform(item(folder / "loud.mp4"))
    assert len(levels) == WAVEFORM_PARTS and 0.3 < max(levels) <= 1
    assert levels.index(max(levels)) / WAVEFORM_PARTS == pytest.approx(BURST_AT_S / 2, abs=0.02)
    assert max(levels[: WAVEFORM_PARTS // 2]) < 0.02
    assert read_waveform(item(folder / "mute.mp4")) == []
    assert peaks(np.array([0, 0.1, -0.5, 0.2, 0.1, 0], np.float32), 3) == [0.1, 0.5, 0.1]
    assert peaks(np.array([0.25], np.float32), 3) == [0.25] * 3  # fewer samples than parts


def test_a_span_is_marked_only_if_it_is_a_part():
    assert FrameStrip((0.0,), (0.0, 1.0), 2.0).is_part and FrameStrip((1.0,), (1.0, 2.0), 2.0).is_part
    assert not FrameStrip((0.0,), (0.0, 2.0), 2.0).is_part


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_all_pixels_and_the_sound_reach_the_browser(media, folder):
    """A large picture is sent small, and whole to look closely. The copy of a clip keeps its sound, at its time."""

    async def check() -> None:
        for name in ("large.jpg", "large.tiff"):
            small, whole = await media.picture(media.number[name]), await media.full(media.number[name])
            assert size_of(small.path) == (1600, 1200) and size_of(whole.path) == (2000, 1500)
        assert (await media.full(media.number["large.jpg"])).path == folder / "large.jpg"
        copy = (await media.clip(media.number["old.avi"])).path
        timeline = read_timeline(copy)
        heard, _ = decode_audio(copy, timeline, 0.0, timeline.duration, 10.0)
        assert sound.burst_time_s(heard.samples) == pytest.approx(BURST_AT_S, abs=0.03)
        assert (await media.facts(media.number["loud.mp4"])).audio == (48_000, 2)
        assert max(await media.waveform(media.number["loud.mp4"])) > 0.3
        _, strip = await media.frame_strip(media.number["loud.mp4"], DecodeSettings(frames=4, span="0.5-1.5"))
        assert strip.is_part and tuple(strip.span_s) == (0.5, 1.5) and len(strip.times_s) == 4

    asyncio.run(check())


def test_sources_have_numbers_and_stay_in_their_folder(media, folder, tmp_path):
    """Those of `large` are found, those that are missing are told, and a link leads to no other file."""
    sources = folder / "sources"

    async def check() -> None:
        number = media.number["large.jpg"]
        assert [(await media.picture(number, place)).path.name for place in (0, 1)] == ["large_0.png", "large_1.png"]
        assert (await media.thumb(number, 1)).type == "image/jpeg"
        for place in (2, -1):
            with pytest.raises(LookupError):
                await media.picture(number, place)
        with pytest.raises(ItemError, match=r"has no source image in .*loud\.\*"):
            await media.picture(media.number["loud.mp4"], 0)
        secret = tmp_path / "secret.png"
        Image.new("RGB", (8, 8)).save(secret)
        (sources / "large_1.png").rename(tmp_path / "kept.png")
        os.symlink(secret, sources / "large_1.png")
        with pytest.raises(ItemError, match="outside the folder"):
            await media.full(number, 1)
        (tmp_path / "kept.png").rename(sources / "large_1.png")

    asyncio.run(check())
    assert media._library.sources.of(item(folder / "large.jpg"))[0][0] == sources
    assert not any(entry.name.startswith("sources/") for entry in media._library.entries)


def test_a_source_that_comes_later_is_found(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gemma_captioner.review.edit_sources._MIN_RELOAD_S", 0.0)
    (tmp_path / "before").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "before" / "mute.png")
    library = Library(Root(folder, folder, folder), Settings.from_dict({"control": [tmp_path / "before"]}))
    assert [source.name for _, source in library.sources.of(item(folder / "mute.mp4"))] == ["mute.png"]
    with pytest.raises(ItemError, match="no source image"):
        library.sources.of(item(folder / "loud.mp4"))
    (tmp_path / "before" / "mute.png").rename(tmp_path / "before" / "loud.png")
    assert [source.name for _, source in library.sources.of(item(folder / "loud.mp4"))] == ["loud.png"]
    with pytest.raises(ItemError, match="no source image"):
        library.sources.of(item(folder / "mute.mp4"))


# Structured captions

FLUX = {
    "scene": "A pier at dusk.", "subjects": [{"description": "a boat"}], "style": "photo", "color_palette": ["#FF0000"],
    "lighting": "low sun", "background": "the sea",
}  # fmt: skip
H3 = "integrated_multimodal_description: [Shot 1] A pier.\n\noverall_soundscape: Waves.\n\nnon_diegetic_music: N/A"


def test_fields_of_a_structured_caption():
    prose = format_spec(None)
    structure = structure_of(json.dumps(FLUX), prose)
    assert (structure.name, structure.is_json) == ("flux2", True)
    assert structure.order[:2] == ("scene", "subjects") and structure.optional == ("mood", "composition")
    assert structure.hints["scene"] == "required; The picture in one sentence"
    assert structure.hints["subjects[0].description"] == "required"
    assert structure.hints["color_palette[0]"] == "optional; pattern ^#[0-9A-F]{6}$"
    assert structure_of("A pier at dusk, by the sea.", prose) is None
    labeled = structure_of(H3, prose)
    assert (labeled.name, labeled.is_json, len(labeled.order), labeled.optional) == ("minimax-h3", False, 3, ())
    assert structure_of('{"what": "a boat"}', prose).name == "json"
    assert structure_of('{"what": "a boat"}', format_spec("flux2")).name == "flux2"  # as --format says
    assert structure_of("A pier at dusk.", format_spec("flux2")) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"color_palette": ["red"]}, "color_palette[0]: 'red' does not match"),
        ({"subjects": [{"position": "left"}]}, "subjects[0]: 'description' is a required property"),
        ({"scene": ""}, "scene: '' should be non-empty"),
        ({"lighting": 3}, "lighting: 3 is not of type 'string'"),
    ],
)
def test_what_does_not_fit_its_format_is_told(change, said):
    assert problem_of(json.dumps(FLUX | change), format_spec(None)).startswith(said)
    assert bool(problem_of(json.dumps(FLUX | change), format_spec(None))) == bool(said)


def test_labeled_paragraphs_are_judged_and_stay_paragraphs():
    prose = format_spec(None)
    assert problem_of(H3, prose) == "" == problem_of("A pier.", prose)
    cut = H3.replace("A pier.", "A pier. [Shot 2] At 00:05.000, a boat.")
    assert "the clip ends at 2 s" in problem_of(cut, prose, 2.0)
    assert "text outside" in problem_of(f"Here it is: {json.dumps(FLUX)}", prose)
    assert normalize_caption(H3.replace("Waves.", "Waves.  \n\n"), b"A pier.") == H3
    assert normalize_caption("A  pier.\nA boat.", b"A pier.") == "A pier. A boat."
    assert normalize_caption("A  pier.\n\nA boat.", b"A pier.\nA cat.") == "A pier.\nA boat."


# The toolbar


def test_folders_and_progress(folder):
    library = Library(Root(folder, folder, folder), Settings.from_dict({"recursive": True, "name": "full"}))
    library.refresh()
    entries = list(library.present())
    assert folder_counts(entries) == [("sources", 2)]
    assert (Totals.of(entries).reviewed, Totals.of(entries).files) == (0, 7)
    entries[0].decision, entries[1].decision = "approved", "rejected"
    assert (Totals.of(entries).reviewed, Totals.of(entries).files) == (2, 7)
