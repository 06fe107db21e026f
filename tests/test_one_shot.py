"""The one-shot scripts, run from another folder as a user of the original runs them."""

from pathlib import Path

import pytest

from tests.support.files import captions, journal

ROOT = Path(__file__).parents[1]
IMAGES, CLIPS = (ROOT / f"gemma3-{kind}-captioning.py" for kind in ("image", "video"))


@pytest.mark.parametrize(
    ("script", "flag", "suffixes", "count"),
    [
        (IMAGES, "--image_folder", {".png", ".jpg"}, 5),
        (CLIPS, "--videos_folder", {".mp4"}, 3),
    ],
)
def test_a_script_captions_its_kind_and_resumes(command, media, script, flag, suffixes, count):
    first = command(script, flag, "media", "--model_id", "demo")
    assert first.code == 0, first.err
    written = captions(media)
    assert {Path(name).stem for name in written} == {p.stem for p in media.iterdir() if p.suffix in suffixes}
    assert len(written) == count
    edited = next(media.glob("*.txt"))
    edited.write_text("mine")
    again = command(script, flag, "media", "--model_id", "demo")
    assert again.code == 0 and edited.read_text() == "mine"
    assert command(script, flag, "media", "--model_id", "demo", "--overwrite").code == 0
    assert captions(media) == written


def test_settings_are_the_originals(command, media):
    command(CLIPS, "--video_folder", "media", "--model_id", "demo")
    settings = journal(media)[0]["settings"]
    assert settings["prompting"]["order"] == "text-first"
    assert (settings["sampling"]["frames"], settings["sampling"]["sampling"]) == (12, "index")
    assert settings["generation"]["max_new_tokens"] == 100
    made = next(line for line in journal(media) if line["kind"] == "caption")
    assert made["prompts"][0].startswith("Provide a detailed, thorough caption of movement")


def test_flags_of_the_original(command, media, tmp_path):
    done = command(
        CLIPS, "--videos_folder", "media", "--output_folder", "out", "--model_id", "demo",
        "--prompt", "Describe {it} in {braces.", "--num_frames", "3", "--max_new_tokens", "5", "--hf_token", "hf_x",
        "--quantize",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(captions(tmp_path / "out")) == 3 and not captions(media)
    made = next(line for line in journal(tmp_path / "out") if line["kind"] == "caption")
    assert len(made["frame_times_s"]) == 3 and made["new_tokens"] <= 5
    assert made["prompts"] == ["Describe {it} in {braces."]  # literally


def test_a_failure_shows_in_the_exit_code_and_never_in_a_caption(command, media):
    (media / "bad.png").write_bytes(b"nothing")
    done = command(IMAGES, "--image_folder", "media", "--model_id", "demo")
    assert done.code == 3
    assert not (media / "bad.txt").exists()
    missing = command(IMAGES, "--image_folder", "nowhere")
    assert missing.code == 1 and "does not exist" in missing.err
    assert command(IMAGES).code == 2
