"""Transcripts: read, cut to the frames, put into prompts, compared with what captions quote; made by Whisper."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gemma_captioner.captions.formats import get_format
from gemma_captioner.captions.speech import has_speech_mismatch, is_spoken, quoted_speech
from gemma_captioner.config.settings import Settings
from gemma_captioner.engines.sound import with_sound_up_to
from gemma_captioner.errors import ItemError, ModelError, StartError
from gemma_captioner.pipeline.postprocess import postprocess_reply
from gemma_captioner.pipeline.transcription import Transcripts
from gemma_captioner.prompts.metadata import MetadataTable, load_metadata
from gemma_captioner.prompts.subtitles import MAX_TRANSCRIPT_BYTES, parse_transcript
from gemma_captioner.prompts.transcripts import TranscriptFiles
from gemma_captioner.prompts.variables import fill_template, find_empty_variable, validate_templates
from gemma_captioner.types import Audio, Frames, MediaItem, Reply
from tests.support.clips import write
from tests.support.files import captions, journal
from tests.support.sound import bursts, write_clip

SRT = """1
00:00:00,500 --> 00:00:01,500
It is late again.

2
00:00:02,000 --> 00:00:04,000
Let us go home, then.
"""
VTT = """WEBVTT - made by hand

STYLE
::cue { color: red }

NOTE 00:00 is no cue

intro
00:00.500 --> 00:01.500 align:start position:0%
<v.loud Roger Bingham>It is <i>late</i> again.</v>

00:02.000 --> 00:04.000
<v Neil>Let us go home, &amp; soon.
<v Roger Bingham>Yes.
"""
# The files of openai-whisper 20250625 (--word_timestamps True) and WhisperX 3.4 (--diarize), shortened.
WHISPER = {
    "text": " It is late again. Let us go home, then.",
    "segments": [
        {
            "id": 0, "seek": 0, "start": 0.5, "end": 1.5, "text": " It is late again.", "tokens": [50364],
            "temperature": 0.0, "avg_logprob": -0.2, "compression_ratio": 0.8, "no_speech_prob": 0.01,
            "words": [
                {"word": " It", "start": 0.5, "end": 0.7, "probability": 0.9},
                {"word": " is", "start": 0.7, "end": 0.9, "probability": 0.9},
                {"word": " late", "start": 0.9, "end": 1.2, "probability": 0.9},
                {"word": " again.", "start": 1.2, "end": 1.5, "probability": 0.9},
            ],
        },
        {"id": 1, "seek": 0, "start": 2.0, "end": 4.0, "text": " Let us go home, then."},
    ],
    "language": "en",
}  # fmt: skip
WHISPERX = {
    "segments": [
        {
            "start": 0.5, "end": 1.5, "text": " It is 2014 again.", "speaker": "SPEAKER_01",
            "words": [
                {"word": "It", "start": 0.5, "end": 0.7, "score": 0.9, "speaker": "SPEAKER_01"},
                {"word": "is", "start": 0.7, "end": 0.9, "score": 0.9, "speaker": "SPEAKER_01"},
                {"word": "2014"},  # numbers are not aligned
                {"word": "again.", "start": 1.2, "end": 1.5, "score": 0.9, "speaker": "SPEAKER_01"},
            ],
        },
        {"start": 2.0, "end": 4.0, "text": " Let us go home.", "speaker": "SPEAKER_00", "words": []},
    ],
    "word_segments": [],
    "language": "en",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "suffix", "expected"),
    [
        (SRT, ".srt", "It is late again. Let us go home, then."),
        ("\ufeff" + SRT.replace("\n", "\r\n"), ".srt", "It is late again. Let us go home, then."),
        (SRT.replace("\n\n", "\n"), ".srt", "It is late again. Let us go home, then."),
        (
            "1\n00:00:01,000 --> 00:00:02,000\n[SPEAKER_03]: Hello.\n\n"
            "2\n00:00:02,000 --> 00:00:03,000\n[SPEAKER_01]: Hi.",
            ".srt",
            "Speaker 1: Hello.\nSpeaker 2: Hi.",
        ),
        (VTT, ".vtt", "Roger Bingham: It is late again.\nNeil: Let us go home, & soon.\nRoger Bingham: Yes."),
        (json.dumps(WHISPER), ".json", "It is late again. Let us go home, then."),
        (json.dumps(WHISPERX), ".json", "Speaker 1: It is 2014 again.\nSpeaker 2: Let us go home."),
        (
            json.dumps({"segments": [{"start": 0, "end": 2, "text": "\u4f60\u597d\u5417", "words": [
                {"word": "\u4f60", "start": 0, "end": 1}, {"word": "\u597d", "start": 1, "end": 1.5},
                {"word": "\u5417", "start": 1.5, "end": 2}]}]}),
            ".json",
            "\u4f60\u597d\u5417",
        ),
        ("", ".srt", ""),  # of a clip in which nobody speaks
        ("WEBVTT\n", ".vtt", ""),
    ],
)  # fmt: skip
def test_the_words_of_each_format(text, suffix, expected):
    assert parse_transcript(text, suffix).as_text() == expected


def test_words_are_cut_to_the_part_of_the_clip():
    """By their own times; spread evenly over a cue that has none."""
    whisper = parse_transcript(json.dumps(WHISPER), ".json")
    assert whisper.within(0.85, 2.5).as_text() == "late again. Let"
    assert parse_transcript(SRT, ".srt").within(0, 3).as_text() == "It is late again. Let us"
    assert whisper.overlapping(0, 1).as_text() == "It is late again. Let"
    assert whisper.within(10, 20).as_text() == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.srt", b"1\n00:00:05,000 --> 00:00:02,000\nHi.", "line 2 ends before it starts: correct its times"),
        (
            "a.srt",
            b"1\n00:00:99,000 --> 00:01:02,000\nHi.",
            "line 2: '00:00:99,000 --> 00:01:02,000' has no valid times",
        ),
        ("a.srt", b"<html>404 Not Found</html>", "no line with times, such as"),
        ("a.srt", bytes(range(1, 256)), "its encoding is uncertain"),
        ("a.srt", b"x" * (MAX_TRANSCRIPT_BYTES + 1), "more than 16 MiB: cut it"),
        ("a.json", b"[" * 100_000, "not valid JSON: write it again"),
        ("a.json", b'{"tags": ["red"]}', "no segments, so it is no transcript of whisper: move it"),
        ("a.json", b'{"segments": [{"start": NaN, "end": 1, "text": "Hi."}]}', "segment 1 ends before it starts"),
        ("a.json", b'{"segments": [{"start": "0", "end": 1, "text": "Hi."}]}', "segment 1 has no start and end"),
        ("a.json", b'{"segments": [{"start": 0, "end": 1}]}', "segment 1 has no text"),
        ("a.json", b'{"segments": [{"start": 0, "end": 1, "text": "Hi", "words": [7]}]}', "a word that is no text"),
        ("a.json", b'{"segments": 3}', "segment 1 has no text"),
    ],
)
def test_a_hostile_transcript_says_what_is_wrong_and_what_to_do(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ItemError, match="its transcript a") as raised:
        TranscriptFiles(tmp_path).read(clip("a.mp4"))
    assert message in str(raised.value)


def test_a_pipe_is_no_transcript(tmp_path):
    os.mkfifo(tmp_path / "a.srt")
    with pytest.raises(ItemError, match="cannot be used: this is not a regular file"):
        TranscriptFiles(tmp_path).read(clip("a.mp4"))


def clip(name: str, kind: str = "clip") -> MediaItem:
    return MediaItem(Path(name), kind, name, Path(name).with_suffix(".txt"), Path())


def test_which_file_belongs_to_a_clip(tmp_path):
    def said(name: str, kind: str = "clip", at: Path = tmp_path) -> str | None:
        found = TranscriptFiles(at).read(clip(name, kind))
        return None if found is None else found.as_text()

    for name in ("a.srt", "b.en-US.VTT", "c.json", "c.en.srt", "d.en.srt", "d.fr.srt", "day1/e.srt", "f.v2.srt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SRT if not name.endswith(".json") else '{"tags": "of another tool"}')
    assert said("a.mp4") and said("b.mp4") and said("c.mp4") and said("day1/e.mp4") and said("day1/a.mp4")
    assert said("f.v2.mp4") and said("f.mp4") is said("e.mp4") is said("a.png", "image") is None
    with pytest.raises(ItemError, match=r"several languages \(d\.en\.srt, d\.fr\.srt\): keep the one"):
        said("d.mp4")
    assert said("a.mp4", at=tmp_path / "a.srt")
    with pytest.raises(ItemError, match=r"has another name than this clip: rename it b\.srt"):
        said("b.mp4", at=tmp_path / "a.srt")
    digests = {name: TranscriptFiles(tmp_path).digest(clip(name)) for name in ("a.mp4", "e.mp4", "d.mp4")}
    assert len(digests["a.mp4"]) == 16 and digests["e.mp4"] == ""
    for name in ("a.en.srt", "a.fr.srt"):  # the one without a language comes first
        (tmp_path / name).write_text(SRT.replace("late", "early"))
        assert said("a.mp4") == parse_transcript(SRT, ".srt").as_text()
        assert TranscriptFiles(tmp_path).digest(clip("a.mp4")) == digests["a.mp4"]
    (tmp_path / "a.json").write_text(json.dumps({"segments": [{"start": 0, "end": 1, "text": "With times."}]}))
    assert said("a.mp4") == "With times."  # JSON is the most exact


# In prompts


def test_a_condition_in_a_prompt():
    text = "A.{transcript:+ Said: {transcript}}{sound:-{transcript:- Leave sound out!}} {place:+In {place}.}"
    assert fill_template(text, {"transcript": "a {b}", "sound": "", "place": ""}) == "A. Said: a {b} "
    assert fill_template(text, {"transcript": " ", "sound": "", "place": "Rome"}) == "A. Leave sound out! In Rome."
    assert validate_templates([text], ["place"], "") == {"transcript", "sound", "place"}
    assert find_empty_variable([text, "{transcript}"], {"transcript": "", "sound": "", "place": ""}) is None
    assert find_empty_variable([text, "{place}"], {"transcript": "", "sound": "", "place": ""}) == "place"
    assert fill_template("{duration:+.1f} {stem:>3}", {"duration": 1.5, "stem": "a"}) == "+1.5   a"  # as ever


@pytest.mark.parametrize("name", ["ltx2", "ltx2.5", "minimax-h3"])
def test_a_preset_asks_for_no_sound_that_the_model_does_not_hear(name):
    [prompt] = Settings.from_dict({"preset": name}).prompts["clip"]
    nothing = {"transcript": "", "sound": "", "silence": ""}
    deaf, heard, silent, told = (
        fill_template(prompt, nothing | known)
        for known in ({}, {"sound": "sound"}, {"silence": "silence"}, {"transcript": "It is late."})
    )
    assert "You do not hear the clip" in deaf and "voice" not in deaf and "ambient" not in deaf
    assert "You do not hear" not in heard and "ambient" in heard and "voice" in heard
    assert "The clip is silent" in silent and "ambient" not in silent
    assert "It is late." in told and "word for word" in told and "ambient" not in told


@pytest.fixture
def clips(tmp_path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        write(folder / name, list(range(0, 100)), rate=24)
    (folder / "a.en.srt").write_text(SRT)
    return folder


def test_a_run_with_transcripts(command, clips, script):
    """They reach the prompts, are cut to the span, and make captions stale when they change. Bad ones fail alone."""
    words = ("caption", clips, "--engine", "scripted", "--model", script(default="A dog of {prompt}"), "--json")
    prompt = ("--prompt", "Rex{transcript:+ hears: {transcript}}", "--span", "0-3")
    assert command(*words, *prompt, "--transcripts", clips).json["captioned"] == 2
    assert captions(clips) == {"a.txt": "A dog of Rex hears: It is late again. Let us", "b.txt": "A dog of Rex"}
    stale = (*words, *prompt, "--transcripts", clips, "--existing", "stale")
    assert command(*stale).json["captioned"] == 0
    (clips / "b.srt").write_text(SRT.replace("late", "early"))
    (clips / "a.en.srt").write_text("no transcript")
    assert command(*stale, "--dry-run").json["failures"][0]["path"].endswith("a.mp4")
    done = command(*stale)
    assert (done.code, done.json["captioned"], done.json["failed"]) == (3, 1, 1)
    assert "its transcript a.en.srt cannot be used" in done.json["failures"][0]["error"]
    assert captions(clips)["b.txt"] == "A dog of Rex hears: It is early again. Let us"
    assert {r["path"]: len(r.get("transcript", "")) for r in journal(clips) if r["kind"] == "caption"} == {
        "a.mp4": 16, "b.mp4": 16,
    }  # fmt: skip
    (clips / "a.en.srt").unlink()
    assert command(*stale).json["captioned"] == 1  # a caption is stale, too, if its transcript is gone
    assert captions(clips)["a.txt"] == "A dog of Rex"


def test_a_prompt_that_needs_a_transcript_says_so(command, clips, script):
    words = ("caption", clips, "--engine", "scripted", "--model", script())
    assert "uses {transcript}: give --transcripts FOLDER" in command(*words, "--prompt", "Said: {transcript}").err
    assert command(*words, "--prompt", "Rex{transcript:+ hears: {transcript}}").code == 0
    assert (
        "give --transcripts FOLDER" in command("caption", clips, "--prompt", "Said: {transcript}").err
    )  # --model auto
    assert "give --transcripts FOLDER" in command("compare", clips, "--prompt", "Said: {transcript}").err
    done = command(*words, "--transcripts", clips / "nosuch")
    assert done.code == 2 and "nosuch does not exist" in done.err
    done = command(*words, "--transcripts", clips / "a.mp4")
    assert done.code == 2 and "is not of type .json, .vtt, .srt" in done.err


def test_a_column_of_the_metadata_named_transcript_is_that_column(tmp_path):
    (tmp_path / "table.csv").write_text("file_name,transcript\na.mp4,From the table\n")
    settings = Settings.from_dict({"prompt": "Said: {transcript}", "metadata": tmp_path / "table.csv"})
    transcripts = Transcripts(settings, load_metadata(settings))
    assert not transcripts and transcripts.digest(clip("a.mp4")) is None


# Quoted speech


@pytest.mark.parametrize(
    ("caption", "spoken"),
    [
        ('He says in a quiet voice, "Two minutes." A radio plays.', ["Two minutes."]),
        ('A man under a sign "EXIT" whispers to her: "Not now!"', ["Not now!"]),
        ('A sign says "OPEN" beside a door.', []),
        ('A woman in a T-shirt that says "SING" walks past "LINE 7".', []),
        ('The subtitle reads "Go!" while she waves.', []),
        ('"Watch your step," a guide tells the visitors.', ["Watch your step,"]),
        ('A poster with the words "HE SAID NO" hangs above a man who speaks.', []),
        ('A man holding a sign shouts, "Stop the train!"', ["Stop the train!"]),
        ("The woman (S1) says: <d>[English] It is late again.</d> A sign reads \"LINE 7\".", ["It is late again."]),
        ('A button that says "Send" is clicked.', []),
        ("He states, 'So good. It's the best tool.' A sign reads 'EXIT'.", ["So good. It's the best tool."]),
        ('Elle dit: \u00abBonjour\u00bb. The man answers, \u201cHello.\u201d', ["Hello."]),
    ],
)  # fmt: skip
def test_speech_is_told_from_signs(caption, spoken):
    assert list(quoted_speech(caption)) == spoken


@pytest.mark.parametrize(
    ("quote", "is_said"),
    [
        ("It is LATE again!", True),
        ("late again", True),
        ("It's late again", False),  # of three words, one differs
        ("it is late again, let us go home now", True),  # one word of nine
        ("Let us all go to the big home, then", False),
        ("The train leaves at noon", False),
    ],
)
def test_a_quote_is_compared_with_the_transcript(quote, is_said):
    assert is_spoken(quote, "It is late again. Let us go home, then.") == is_said


def test_a_quote_in_another_script():
    assert is_spoken("\u4f60\u597d\uff01", "\u4f60 \u597d \u5417") and not is_spoken(
        "\u518d\u89c1", "\u4f60\u597d\u5417"
    )
    assert has_speech_mismatch('She says, "Hola."', "") and not has_speech_mismatch('A sign reads "Hola."', "")


def test_a_caption_that_quotes_what_nobody_says_is_flagged(command, clips, script):
    (clips / "b.srt").write_text(SRT)
    replies = {
        "a.mp4": 'A man walks under a sign "EXIT" and says, "It is late again!"',
        "b.mp4": 'A man walks under a sign "EXIT" and says, "The train leaves at noon."',
    }
    command("caption", clips, "--engine", "scripted", "--model", script(replies=replies), "--transcripts", clips)
    flags = {r["path"]: r["flags"] for r in journal(clips) if r["kind"] == "caption"}
    assert flags == {"a.mp4": [], "b.mp4": ["speech_mismatch"]}
    assert [f["code"] for f in command("check", clips, "--json").json["findings"]].count("speech_mismatch") == 1


# Made by Whisper


def whisper(**settings: object) -> Transcripts:
    return Transcripts(Settings.from_dict({"transcripts": "auto", **settings}), MetadataTable(None))


def heard(*flags: str, audio: bool = True) -> Frames:
    sound = Audio(np.full(16_000, 0.1, np.float32)) if audio else None
    return Frames(np.zeros((1, 8, 8, 3), np.uint8), (0.0,), 1.0, flags, "clip", audio=sound, span_s=(2.0, 3.0))


def test_without_faster_whisper_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(StartError, match=r"pip install 'gemma-captioner\[transcribe\]', or give a folder"):
        whisper()


class Whisper:
    """Stands in for faster_whisper.WhisperModel 1.2, of which no model can be had here."""

    def __init__(self, model: str, device: str, compute_type: str, use_auth_token: str | None) -> None:
        if model == "nosuch":
            raise ValueError("Invalid model size 'nosuch', expected one of: tiny, base")
        if model == "tiny":
            from huggingface_hub.errors import LocalEntryNotFoundError

            raise LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder")
        assert (device, compute_type) == ("cpu", "int8")

    def transcribe(self, audio: np.ndarray, **options: object):
        assert audio.dtype == np.float32 and len(audio) == 16_000 and options["word_timestamps"]
        words = [SimpleNamespace(word=" It", start=0.1, end=0.2), SimpleNamespace(word=" is.", start=0.2, end=0.4)]
        return iter([SimpleNamespace(words=words), SimpleNamespace(words=None)]), SimpleNamespace(language="en")


@pytest.fixture
def faster_whisper(monkeypatch):
    module = SimpleNamespace(WhisperModel=Whisper, __spec__=SimpleNamespace(name="faster_whisper"))
    monkeypatch.setitem(sys.modules, "faster_whisper", module)


def test_whisper_hears_the_sound_of_the_frames(faster_whisper):
    transcripts = whisper(prompt="Said: {transcript}")
    assert transcripts.max_audio_s and transcripts.speech(clip("a.mp4"), heard()).text == "It is."
    assert transcripts.speech(clip("a.mp4"), heard("no_audio", audio=False)) is None
    assert transcripts.speech(clip("a.mp4"), heard("silent")).text == ""  # Whisper would invent words


def test_a_clip_that_whisper_fails_on_fails_alone(faster_whisper, monkeypatch):
    def fails(*arguments: object, **options: object):
        raise RuntimeError("mkl_malloc: failed to allocate memory")

    monkeypatch.setattr(Whisper, "transcribe", fails)
    failed = whisper().speech(clip("a.mp4"), heard())
    assert "cannot be transcribed (mkl_malloc" in failed.error and "give a transcript" in failed.error


def test_a_whisper_model_that_cannot_be_had_says_what_to_do(faster_whisper):
    with pytest.raises(ModelError, match="Whisper model tiny is not on this machine, and the hub cannot"):
        whisper(transcripts="auto:tiny").speech(clip("a.mp4"), heard())
    with pytest.raises(ModelError, match="expected one of: tiny"):
        whisper(transcripts="auto:nosuch").speech(clip("a.mp4"), heard())


# With the sound of clips


@pytest.fixture
def sounds(tmp_path) -> Path:
    """A clip with a burst of sound, one with a silent track, and one without a track."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    write_clip(folder / "heard.mp4", range(48), [("aac", 48_000, bursts(2, [1.0]))])
    write_clip(folder / "silent.mp4", range(48), [("aac", 48_000, bursts(2, []))])
    write(folder / "mute.mp4", list(range(48)))
    return folder


def test_a_run_with_sound_asks_and_flags_by_what_each_clip_has(command, sounds, script):
    path = script(
        default="A grey field with numbers.",
        max_audio_s=30,
        replies={"mute.mp4": 'A field. A voice says, "One."', "silent.mp4": "A field. The clip has no sound."},
    )
    words = ("caption", sounds, "--engine", "scripted", "--model", path, "--preset", "ltx2", "--for", "ltx:ltx2")
    assert command(*words).code == 0
    records = {r["path"].removesuffix(".mp4"): r for r in journal(sounds) if r["kind"] == "caption"}
    prompts = {name: record["prompts"][0] for name, record in records.items()}
    assert {name: record["flags"] for name, record in records.items()} == {
        "heard": ["sound_missing"], "silent": ["silent"], "mute": ["no_audio", "sound_invented"],
    }  # fmt: skip
    assert "You hear the clip" in prompts["heard"] and "The clip is silent" in prompts["silent"]
    assert "leave sound out" in prompts["mute"]


def test_whisper_gets_sound_that_the_model_does_not_take(command, sounds, script, faster_whisper, monkeypatch):
    class Listener(Whisper):
        def transcribe(self, audio: np.ndarray, **options: object):
            assert abs(len(audio) - 32_000) < 1000 and np.abs(audio).max() > 0.3
            return super().transcribe(np.zeros(16_000, np.float32), **options)

    monkeypatch.setattr(sys.modules["faster_whisper"], "WhisperModel", Listener)
    path = script(default="{prompt} {audio_s}")
    words = ("caption", sounds, "--engine", "scripted", "--model", path, "--transcripts", "auto")
    prompt = ("--prompt", "A dog.{sound:+ It is heard.}{transcript:+ It hears: {transcript}}")
    assert command(*words, *prompt, "--json").json["captioned"] == 3
    assert captions(sounds) == {
        "heard.txt": "A dog. It hears: It is. 0",
        "silent.txt": "A dog. 0",
        "mute.txt": "A dog. 0",
    }
    assert command(*words, *prompt, "--json", "--existing", "stale").json["captioned"] == 0


def test_a_model_whose_server_refused_the_sound_has_not_heard_it():
    def flags(*of_engine: str) -> tuple[str, ...]:
        reply = Reply(0, "A grey field with numbers.", "stop", 1, 1, 0.0, of_engine)
        settings = Settings.from_dict({})
        return postprocess_reply(reply, "", settings, {}, get_format(settings.format), is_heard=True).flags

    assert flags() == ("sound_missing",) and flags("no_audio") == ("no_audio",)


@pytest.mark.long
def test_check_media_finds_silence_for_trainers_of_sound(command, sounds):
    def silent(*words: str) -> list[str]:
        findings = command("check", sounds, "--media", "--json", *words).json["findings"]
        return [Path(f["path"]).name for f in findings if f["code"] == "silent"]

    assert silent("--for", "ltx:ltx2.5") == ["silent.mp4"] and silent() == []


def test_no_more_sound_is_sent_than_the_model_takes():
    frames = heard()
    assert with_sound_up_to(30, frames) is frames and with_sound_up_to(0, frames).audio is None
    cut = with_sound_up_to(0.5, frames)
    assert cut.audio.duration_s == 0.5 and cut.flags == ("partial_audio",)


def test_a_transcript_of_another_clip_is_not_taken_for_one_in_another_language(tmp_path):
    items = []
    for stem in ("scene", "scene.alt"):
        path = tmp_path / f"{stem}.mp4"
        path.touch()
        items.append(MediaItem(path, "clip", path.name, path.with_suffix(".txt"), tmp_path))
    (tmp_path / "scene.alt.srt").write_text("00:00:00,000 --> 00:00:01,000\nalt words\n")
    files = TranscriptFiles(tmp_path)
    assert files.read(items[0]) is None and files.read(items[1]) is not None


@pytest.mark.parametrize("name", ["clip.srt", "clip.json"])
def test_times_that_no_clock_has_fail_alone(tmp_path, name):
    many = "9" * 400
    text = f"{many}:00:00,000 --> {many}:00:01,000\nA.\n"
    if name.endswith("json"):
        text = f'{{"segments": [{{"text": "a", "start": {many}, "end": {many}}}]}}'
    (tmp_path / name).write_text(text)
    item = MediaItem(tmp_path / "clip.mp4", "clip", "clip.mp4", tmp_path / "clip.txt", tmp_path)
    with pytest.raises(ItemError, match="cannot be used"):
        TranscriptFiles(tmp_path).read(item)
