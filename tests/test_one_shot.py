"""The one-shot scripts, run from another folder as a user of the original runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import captions, journal

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.mark.parametrize(
    ("script", "flag", "suffixes", "count"),
    [
        ("gemma3-image-captioning.py", "--image_folder", {".png", ".jpg"}, 5),
        pytest.param("gemma3-video-captioning.py", "--videos_folder", {".mp4"}, 3, marks=pytest.mark.long),
    ],
)
def test_a_script_captions_its_kind_and_resumes(media, tmp_path, script, flag, suffixes, count):
    first = run(script, flag, "media", "--model_id", "demo", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    written = captions(media)
    assert {Path(name).stem for name in written} == {p.stem for p in media.iterdir() if p.suffix in suffixes}
    assert len(written) == count
    edited = next(media.glob("*.txt"))
    edited.write_text("mine")
    again = run(script, flag, "media", "--model_id", "demo", cwd=tmp_path)
    assert again.returncode == 0 and edited.read_text() == "mine"
    assert run(script, flag, "media", "--model_id", "demo", "--overwrite", cwd=tmp_path).returncode == 0
    assert captions(media) == written


def test_settings_are_the_originals(media, tmp_path):
    run("gemma3-video-captioning.py", "--video_folder", "media", "--model_id", "demo", cwd=tmp_path)
    settings = journal(media)[0]["settings"]
    assert settings["prompting"]["order"] == "text-first"
    assert (settings["sampling"]["frames"], settings["sampling"]["sampling"]) == (12, "index")
    assert settings["generation"]["max_new_tokens"] == 100
    made = next(line for line in journal(media) if line["kind"] == "caption")
    assert made["prompts"][0].startswith("Provide a detailed, thorough caption of movement")


def test_flags_of_the_original(media, tmp_path):
    done = run(
        "gemma3-video-captioning.py", "--videos_folder", "media", "--output_folder", "out", "--model_id", "demo",
        "--prompt", "Describe.", "--num_frames", "3", "--max_new_tokens", "5", "--hf_token", "hf_x", "--quantize",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(captions(tmp_path / "out")) == 3 and not captions(media)
    made = next(line for line in journal(tmp_path / "out") if line["kind"] == "caption")
    assert len(made["frame_times_s"]) == 3 and made["new_tokens"] <= 5


def test_a_failure_shows_in_the_exit_code_and_never_in_a_caption(media, tmp_path):
    (media / "bad.png").write_bytes(b"nothing")
    done = run("gemma3-image-captioning.py", "--image_folder", "media", "--model_id", "demo", cwd=tmp_path)
    assert done.returncode == 3
    assert not (media / "bad.txt").exists()
    missing = run("gemma3-image-captioning.py", "--image_folder", "nowhere", cwd=tmp_path)
    assert missing.returncode == 1 and "does not exist" in missing.stderr
    assert run("gemma3-image-captioning.py", cwd=tmp_path).returncode == 2
