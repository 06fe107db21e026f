"""`check --media`: faults of images and clips, found by code and path, and what trainers do to them."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from gemma_captioner.check.media import bars, run
from gemma_captioner.check.media.blur import blur
from gemma_captioner.check.media.cache import MeasurementCache
from gemma_captioner.check.media.duplicates import exact_copies
from gemma_captioner.check.media.measure import measure
from gemma_captioner.check.media.record import VERSION, Measurement
from gemma_captioner.check.media.rules import MEDIA_RULES, match
from gemma_captioner.check.settings import CheckSettings
from gemma_captioner.check.trainer_rules import ALL_RULES
from gemma_captioner.config.targets import get_target, trainers
from gemma_captioner.dataset.discover import resolve_roots
from gemma_captioner.errors import StartError, UsageError
from gemma_captioner.types import MediaItem
from tests.test_layout import imported_by

SIZE = (320, 240)


def scene(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 [height, width, 3]: disks of all sizes that hide each other, a common model of photographs, and grain."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for radius in sorted(4 / rng.uniform(0.05, 1, size[0]) ** 1.0, reverse=True):
        center = rng.integers(0, size, 2).tolist()
        cv2.circle(picture, center, round(radius), rng.integers(20, 236, 3).tolist(), -1, cv2.LINE_AA)
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def with_blurred_bars(picture: np.ndarray, bar: int) -> np.ndarray:
    height, width = picture.shape[:2]
    large = cv2.resize(picture, None, fx=1 + 2 * bar / height, fy=1 + 2 * bar / height)
    left = (large.shape[1] - width) // 2
    frame = cv2.GaussianBlur(large[:, left : left + width], (0, 0), 8)
    frame[bar : bar + height] = picture
    return frame


def write_clip(path: Path, frames: list[np.ndarray], rate: int = 24) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "ultrafast"})
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def panned(seed: int, count: int) -> list[np.ndarray]:
    ground = scene(seed, (SIZE[0] + count, SIZE[1]))
    return [ground[:, i : i + SIZE[0]] for i in range(count)]


FAULTS = {
    *{("blurred.png", "blurred"), ("bars.jpg", "black_bars"), ("blurred-bars.jpg", "blurred_bars")},
    *{("good.jpg", "exact_copy"), ("same.jpg", "exact_copy"), ("original.jpg", "near_copy")},
    *{("cropped.webp", "near_copy"), ("animated.gif", "animated_image"), ("broken.png", "unreadable")},
    *{("cut.mp4", "cut_inside"), ("still.mp4", "static_clip")},
}


def fill(folder: Path) -> None:
    """Write files with and without `FAULTS`, each with a caption."""

    def save(name: str, pixels: np.ndarray, **options: Any) -> Image.Image:
        image = Image.fromarray(pixels)
        image.save(folder / name, **options)
        return image

    save("good.jpg", scene(1), quality=92)
    save("blurred.png", cv2.GaussianBlur(scene(2), (0, 0), 4))
    save("bars.jpg", cv2.copyMakeBorder(scene(3), 40, 40, 0, 0, cv2.BORDER_CONSTANT, value=(16, 16, 16)), quality=80)
    save("blurred-bars.jpg", with_blurred_bars(scene(4), 60), quality=85)
    shutil.copyfile(folder / "good.jpg", folder / "same.jpg")
    save("original.jpg", scene(5), quality=92)
    save("cropped.webp", cv2.resize(scene(5)[8:-8, 10:-10], (200, 150), interpolation=cv2.INTER_AREA), quality=60)
    frames = [Image.fromarray(frame) for frame in panned(6, 4)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=100)
    (folder / "broken.png").write_bytes((folder / "blurred.png").read_bytes()[:300])
    write_clip(folder / "moving.mp4", panned(7, 24))
    write_clip(folder / "cut.mp4", [*panned(8, 12), *panned(9, 12)])
    write_clip(folder / "still.mp4", [scene(10)] * 24)
    for path in list(folder.iterdir()):
        path.with_suffix(".txt").write_text(f"A picture of {path.stem} and of what lies around it.")


def found_in(result: dict[str, Any]) -> set[tuple[str, str]]:
    return {(Path(f["path"]).name, f["code"]) for f in result["findings"]}


def test_each_fault_is_found_and_nothing_else(tmp_path, command):
    folder = tmp_path / "dataset"
    folder.mkdir()
    fill(folder)
    before = {path.name for path in folder.iterdir()}
    ran = command("check", str(folder), "--media", "--json")
    assert ran.code == 3, ran.err
    assert found_in(ran.json) == FAULTS
    [same] = [f for f in ran.json["findings"] if Path(f["path"]).name == "same.jpg"]
    assert same["other"] == str(folder / "good.jpg") and "same as good.jpg" in same["what"]
    assert {path.name for path in folder.iterdir()} == before | {".gemma-captioner"}
    page = (folder / ".gemma-captioner" / "check" / "report.html").read_text(encoding="utf-8")
    pictures = page.count("data:image/jpeg;base64,")
    # broken.png has no picture; the four copies show the other file, too
    assert pictures == len(FAULTS) - 1 + 4
    # Without --media nothing is decoded and none of it is found.
    assert found_in(command("check", str(folder), "--json").json) == set()


def check(folder: Path, **settings: Any) -> tuple[set[tuple[str, str]], int]:
    """(findings, number of files that were measured now)."""
    [root] = resolve_roots([folder], None)
    measured = [0]
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png", ".webp"))
    found = run.check_media(root, paths, CheckSettings(media=True, **settings), lambda _, now: measured.append(now))
    return {(Path(f.path).name, f.code) for f in found}, max(measured)


def test_what_was_measured_is_not_measured_again(tmp_path):
    for number in range(4):
        Image.fromarray(scene(number)).save(tmp_path / f"{number}.jpg")

    def stop(done: int, measured: int) -> None:
        if measured == 2:
            raise KeyboardInterrupt

    [root] = resolve_roots([tmp_path], None)
    with pytest.raises(KeyboardInterrupt):
        run.check_media(root, sorted(tmp_path.glob("*.jpg")), CheckSettings(media=True), stop)
    cache = tmp_path / ".gemma-captioner" / "check" / "media.jsonl"
    assert len(cache.read_bytes().splitlines()) == 2
    with cache.open("ab") as file:
        file.write(b'{"name": "3.jpg", "media":')  # written by a process that was killed
    cache.write_bytes(cache.read_bytes() + b"\n")
    assert check(tmp_path) == (set(), 2)
    assert check(tmp_path) == (set(), 0)
    Image.fromarray(cv2.GaussianBlur(scene(1), (0, 0), 5)).save(tmp_path / "1.jpg")
    assert check(tmp_path) == ({("1.jpg", "blurred")}, 1)
    stale = cache.read_text().replace(f'"version":{VERSION}', '"version":0')
    cache.write_text(stale)
    assert check(tmp_path)[1] == 4  # measured otherwise than now
    assert len(cache.read_text().splitlines()) == 4  # what no longer counts is removed


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_that_exif_turns_is_reported_for_trainers_that_ignore_it(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene(1)).save(tmp_path / f"turned{suffix}", exif=exif)
    Image.fromarray(scene(2)).save(tmp_path / f"upright{suffix}")
    assert check(tmp_path, for_="diffusion-pipe:flux2")[0] == {(f"turned{suffix}", "turned_by_exif")}
    assert check(tmp_path, for_="ai-toolkit:flux2")[0] == check(tmp_path)[0] == set()


@pytest.mark.parametrize("name", ["a.tif", "a.webp", "zero.jpg", "bytes.jpg", "short.png"])
def test_an_orientation_that_turns_nothing_is_not_reported(tmp_path, name):
    """Pillow turns TIFF itself; our decoder turns no WebP, as browsers; an invalid orientation is ignored."""
    exif = Image.Exif()
    exif[0x0112] = 0 if name == "zero.jpg" else 6
    content = b"Exif\0\0II*\0" if name == "short.png" else exif.tobytes()
    if name == "bytes.jpg":
        content = content.replace(b"\x01\x12\0\x03", b"\x01\x12\0\x07")  # of an undefined type
        assert content != exif.tobytes()
    Image.fromarray(scene(1)).save(tmp_path / name, exif=content)
    found = measure(MediaItem(tmp_path / name, "image", name, tmp_path / "caption.txt", tmp_path))
    assert (found.orientation, found.error) == (1, "")


def test_a_folder_that_cannot_be_written_is_checked_all_the_same(tmp_path):
    (tmp_path / ".gemma-captioner").write_text("a file is in the way")
    cache = MeasurementCache(tmp_path)
    with cache:
        cache.add(tmp_path / "a.jpg", "1:1", Measurement(width=1, height=1))
    assert isinstance(cache.error, OSError) and cache.get(tmp_path / "a.jpg", "1:1") is not None


CLIP = {"kind": "clip", "width": 1280, "height": 720, "motion": 60.0}
TRAINER_CASES: list[tuple[str, str, dict[str, Any], dict[str, Any], str]] = [
    # code, target, measured, settings, what the detail says
    ("clip_too_short", "musubi:wan", {"frames": 80, "seconds": 5.0}, {"train_frames": 81}, "dropped without a message"),
    ("clip_too_short", "ai-toolkit:wan", {"frames": 50, "seconds": 2.0}, {"train_frames": 81}, "frames repeat"),
    ("clip_too_short", "diffusion-pipe:wan", {"frames": 81, "seconds": 3.375}, {"train_frames": 81}, "skipped"),
    ("frame_count", "musubi:wan", {"frames": 80, "seconds": 5.0}, {}, "so 77"),
    ("frame_count", "ltx:ltx2", {"frames": 100, "seconds": 4.0}, {}, "8n+1, so 97"),
    ("frame_count", "simpletuner:minimax-h3", {"frames": 91, "seconds": 3.8}, {}, "17n+5, so 107"),
    ("frame_rate", "musubi:wan", {"frames": 81, "seconds": 2.7}, {}, "becomes slower"),
    ("frame_rate", "musubi:wan", {"frames": 81, "seconds": 8.1}, {}, "becomes faster"),
    ("frame_rate", "diffusion-pipe:wan", {"frames": 81, "seconds": 8.1}, {}, "are repeated"),
    ("fewer_pixels", "sd-scripts:sdxl", {"width": 900, "height": 900}, {"resolution": 1024}, "is enlarged"),
    ("turned_by_exif", "musubi:flux2", {"kind": "image", "orientation": 6}, {}, "sideways"),
    ("turned_by_exif", "sd-scripts:sdxl", {"kind": "image", "orientation": 3}, {}, "upside down"),
    ("extreme_aspect", "sd-scripts:sdxl", {"width": 5000, "height": 1000}, {}, "80% remains"),
    ("extreme_aspect", "diffusion-pipe:sdxl", {"width": 1000, "height": 2500}, {}, "2:1"),
    ("cut_inside", "musubi:wan", {"frames": 240, "seconds": 15.0, "cuts": [4.5]}, {"train_frames": 81}, "4.50 s"),
]
FITTING: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("clip_too_short", "musubi:wan", {"frames": 81, "seconds": 5.0625}, {"train_frames": 81}),
    ("clip_too_short", "diffusion-pipe:wan", {"frames": 153, "seconds": 5.1}, {"train_frames": "33,81"}),
    ("frame_count", "musubi:wan", {"frames": 81, "seconds": 5.0}, {}),
    ("frame_rate", "diffusion-pipe:wan", {"frames": 150, "seconds": 5.0}, {}),  # resampled
    ("frame_rate", "ai-toolkit:wan", {"frames": 150, "seconds": 5.0}, {}),  # spread over the clip
    ("fewer_pixels", "sd-scripts:sdxl", {"width": 1200, "height": 900}, {"resolution": 1024}),
    ("extreme_aspect", "sd-scripts:sdxl", {"width": 3900, "height": 1000}, {}),
    ("turned_by_exif", "onetrainer:sdxl", {"kind": "image", "orientation": 6}, {}),  # turns it
    ("extreme_aspect", "ai-toolkit:sdxl", {"width": 9000, "height": 1000}, {}),  # keeps any shape
    ("cut_inside", "musubi:wan", {"frames": 240, "seconds": 15.0, "cuts": [6.5]}, {"train_frames": 81}),
]


def codes(target: str, measured: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    return dict(match(Measurement(**CLIP | measured), CheckSettings(media=True, for_=target, **settings)))


@pytest.mark.parametrize(("code", "target", "measured", "settings", "what"), TRAINER_CASES)
def test_what_a_trainer_does_to_a_file(code, target, measured, settings, what):
    assert what in codes(target, measured, settings)[code]


@pytest.mark.parametrize(("code", "target", "measured", "settings"), FITTING)
def test_what_fits_a_trainer_is_not_reported(code, target, measured, settings):
    assert code not in codes(target, measured, settings)


def test_every_media_rule_is_tried():
    assert {code for _, code in FAULTS} | {case[0] for case in TRAINER_CASES} >= set(MEDIA_RULES)


def test_the_severity_depends_on_the_trainer_and_the_model():
    def severity(code: str, target: str) -> str:
        row = get_target(target)
        return ALL_RULES[code].for_target(row.trainer, row.model).severity

    assert severity("clip_too_short", "musubi:wan") == "error"  # dropped
    assert severity("clip_too_short", "ai-toolkit:wan") == "note"  # stretched
    assert severity("cut_inside", "musubi:wan") == "error"
    assert severity("cut_inside", "simpletuner:minimax-h3") == "note"  # its captions describe several shots
    known = {*trainers(), *(get_target(f"musubi:{model}").model for model in ("minimax-h3", "ltx2.5"))}
    assert {name for rule in ALL_RULES.values() for name in rule.severity_for} <= known


def test_the_severity_reaches_the_exit_code(tmp_path, command):
    write_clip(tmp_path / "a.mp4", panned(1, 24), rate=16)
    (tmp_path / "a.txt").write_text("A camera pans over a rough wall of many colors.")
    for trainer, exit_code in (("musubi:wan", 3), ("ai-toolkit:wan", 0)):
        ran = command("check", str(tmp_path), "--media", "--for", trainer, "--train-frames", "81", "--json")
        [short] = [f for f in ran.json["findings"] if f["code"] == "clip_too_short"]
        assert (short["severity"], ran.code) == ("error" if exit_code else "note", exit_code)


def test_clips_of_any_rate_and_length_are_searched(tmp_path):
    write_clip(tmp_path / "fast.mp4", [*panned(8, 30), *panned(9, 30)], rate=30)
    write_clip(tmp_path / "short.mp4", panned(1, 2), rate=60)
    fast, short = (
        measure(MediaItem(tmp_path / name, "clip", name, tmp_path / "caption.txt", tmp_path))
        for name in ("fast.mp4", "short.mp4")
    )
    [cut] = fast.cuts
    assert 1.0 <= cut < 1.0 + 1 / 12 and short.motion > 2


@pytest.mark.parametrize("sigma", [3, 5, 9])
def test_blur_is_told_from_a_blurred_background(sigma):
    sharp = cv2.cvtColor(scene(1), cv2.COLOR_RGB2GRAY)
    soft = cv2.GaussianBlur(sharp, (0, 0), sigma)
    with_subject = soft.copy()
    with_subject[60:180, 100:220] = sharp[60:180, 100:220]
    assert blur(soft) > 0.6 and blur(sharp) < 0.3 and blur(with_subject) < 0.49
    assert blur(np.zeros((64, 64), np.uint8)) == 0.0


@pytest.mark.parametrize("level", [0, 16, 40])
@pytest.mark.parametrize("part", [0.03, 0.12, 0.3])
def test_bars_are_measured(level, part):
    gray = cv2.cvtColor(scene(2), cv2.COLOR_RGB2GRAY).astype(np.float32)
    width = round(part * SIZE[0])
    framed = cv2.copyMakeBorder(gray, 0, 0, width, width, cv2.BORDER_CONSTANT, value=level)
    above, beside = bars.on_both_axes(bars.black, [framed])
    assert above == (0, 0) and beside == pytest.approx([width / framed.shape[1]] * 2, abs=0.01)
    assert bars.on_both_axes(bars.black, [gray]) == bars.on_both_axes(bars.blurred, [gray]) == ((0, 0), (0, 0))


@pytest.mark.parametrize(("level", "is_bar"), [(120, True), (250, False)])  # the ground of a product is bright
def test_bars_of_one_color_are_found_if_they_are_not_bright(level, is_bar):
    gray = cv2.cvtColor(scene(2), cv2.COLOR_RGB2GRAY).astype(np.float32)
    framed = cv2.copyMakeBorder(gray, 0, 0, 60, 60, cv2.BORDER_CONSTANT, value=level)
    above, beside = bars.on_both_axes(bars.blurred, [framed])
    assert above == (0, 0) and (beside == pytest.approx([60 / framed.shape[1]] * 2, abs=0.01)) is is_bar


def test_one_bar_that_copies_the_picture_is_enough():
    """The picture can be plain at its other edge."""
    gray = cv2.cvtColor(scene(4), cv2.COLOR_RGB2GRAY).astype(np.float32)
    profile = cv2.GaussianBlur(gray[: len(gray) // 2].mean(axis=0)[None], (0, 0), 12)
    copy = 120 + 2 * (profile - profile.mean()) / profile.std()
    framed = np.vstack([np.repeat(copy, 60, axis=0), gray, np.full((60, gray.shape[1]), 230, np.float32)])
    above, _ = bars.on_both_axes(bars.blurred, [framed])
    assert above == pytest.approx([60 / framed.shape[0]] * 2, abs=0.02)
    framed[:60] = 230
    assert bars.on_both_axes(bars.blurred, [framed])[0] == (0, 0)


def test_a_black_frame_and_a_dark_ground_are_no_bars():
    dark = np.full((240, 320), 4, np.float32)
    cv2.circle(dark, (160, 120), 40, 200, -1)  # a subject on a black ground
    for picture in (dark, np.zeros((240, 320), np.float32)):
        assert bars.on_both_axes(bars.black, [picture]) == ((0, 0), (0, 0))


def test_options_that_need_media_say_so():
    for options in ({"resolution": 512}, {"for_": "musubi:wan", "train_frames": 81}):
        with pytest.raises(UsageError, match="--media"):
            CheckSettings.from_dict(options)
    with pytest.raises(UsageError, match="--for"):
        CheckSettings.from_dict({"media": True, "train_frames": 81})


def test_missing_libraries_are_named_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda name: None if name == "imagehash" else object())
    with pytest.raises(StartError, match=r"gemma-captioner\[media\]"):
        run.require_libraries()


def test_a_worker_imports_the_decoders_and_no_settings():
    ours, others = imported_by("import gemma_captioner.check.media.measure")
    assert ours == {"telemetry", "errors", "types", "storage", "media", "check"}
    assert others.isdisjoint({"pydantic", "cyclopts", "rich", "torch", "transformers", "filelock", "jinja2"})


def test_the_measurements_are_plain_json(tmp_path):
    with MeasurementCache(tmp_path) as cache:
        cache.add(tmp_path / "a.jpg", "1:1", Measurement(width=2, height=3, hashes=[[1 << 63, 2, 3]]))
    [line] = (tmp_path / ".gemma-captioner" / "check" / "media.jsonl").read_text().splitlines()
    assert json.loads(line)["hashes"] == [[1 << 63, 2, 3]]
    assert MeasurementCache(tmp_path).get(tmp_path / "a.jpg", "1:1").width == 2


def test_a_cache_of_somebody_else_and_files_that_vanish_end_nothing(tmp_path):
    store = tmp_path / ".gemma-captioner" / "check"
    store.mkdir(parents=True)
    (store / "media.jsonl").write_text('0\nnull\n{"name": 3}\n')
    with MeasurementCache(tmp_path) as cache:
        assert cache.get(tmp_path / "a.png", "1:1") is None
    (tmp_path / "a.png").write_bytes(b"a")
    assert exact_copies([str(tmp_path / "a.png"), str(tmp_path / "gone.png")]) == []
    assert blur(np.zeros((1, 40), np.uint8)) == 0.0
