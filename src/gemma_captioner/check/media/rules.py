"""The rules of `check --media`: what a measurement says of a file, in general and for a trainer.

Each rule yields a detail for a file that breaks it. Codes are stable; docs/check.md contains the table.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass

from ...config.targets import Target, target_in_mode, training_lengths
from ...media.sampling import MAX_RATE_DIFFERENCE, Timeline, longest_that_fits
from ..rules import Rule, Severity
from ..settings import CheckSettings
from .record import MAX_SECONDS, Measurement

_MAX_BLUR = {"image": 0.49, "clip": 0.56}  # clips lose detail when they are compressed
_MIN_MOTION = 5.0  # levels
_NAMES = (("above", "below"), ("left", "right"))
# The widest bucket. diffusion-pipe: `max_ar` of its example. Sources: library/model_util.py of sd-scripts,
# dataset/bucket.py of musubi-tuner, AspectBucketing.py of mgds, examples/dataset.toml of diffusion-pipe.
_WIDEST = {"sd-scripts": 4.0, "musubi": 4.0, "onetrainer": 4.0, "diffusion-pipe": 2.0}
# What becomes of a picture with fewer pixels than the resolution. Sources as above; toolkit/buckets.py of ai-toolkit,
# core/data/operators.py of DiffSynth-Studio, scripts/process_videos.py of LTX-2.
_SMALL = {
    "sd-scripts": "it is enlarged, unless bucket_no_upscale is set",
    "musubi": "it is enlarged, unless bucket_no_upscale is set",
    "ltx": "it is enlarged",
    "diffusion-pipe": "it is enlarged",
    "ai-toolkit": "it is trained on at its own size",
    "diffsynth": "it is trained on at its own size",
    "simpletuner": "it is enlarged, or left out if minimum_image_size is set",
}
# Trainers that do not turn images by EXIF: utils/dataset.py of diffusion-pipe, dataset/datasources.py of musubi-tuner,
# core/data/operators.py of DiffSynth-Studio, library/train_util.py of sd-scripts, image_manipulation/load.py of
# SimpleTuner. The others do, or their code was not found.
_IGNORE_EXIF = ("diffusion-pipe", "musubi", "diffsynth", "sd-scripts", "simpletuner")
_TURNED = {2: "mirrored", 3: "upside down", 4: "upside down and mirrored"}  # others are sideways
# Models whose captions describe several shots.
_MULTI_SHOT: Mapping[str, Severity] = {"minimax-h3": "note", "ltx2.5": "note"}
_DROPPED: Mapping[str, Severity] = dict.fromkeys(("musubi", "diffusion-pipe", "ltx", "simpletuner"), "error")


def _blurred(found: Measurement, settings: CheckSettings) -> str | None:
    return f"{found.blur:.2f} of 1.00" if found.blur >= _MAX_BLUR[found.kind] else None


def _black_bars(found: Measurement, settings: CheckSettings) -> str | None:
    return _describe_bars(found.black_bars)


def _blurred_bars(found: Measurement, settings: CheckSettings) -> str | None:
    return _describe_bars(found.blurred_bars)


def _describe_bars(bars: object) -> str | None:
    """# ((0.125, 0.125), (0, 0)) -> 12.5 % of the height above, 12.5 % below"""
    parts = []
    for pair, names, side in zip(bars, _NAMES, ("height", "width"), strict=True):  # type: ignore[call-overload]
        if max(pair):
            parts.append(f"{pair[0]:.1%} of the {side} {names[0]} and {pair[1]:.1%} {names[1]}")
    return ", ".join(parts) or None


def _static(found: Measurement, settings: CheckSettings) -> str | None:
    return "" if found.kind == "clip" and found.frames > 1 and found.motion < _MIN_MOTION else None


def _cut(found: Measurement, settings: CheckSettings) -> str | None:
    target = _target(settings)
    kept = MAX_SECONDS
    if target is not None and target.keep == "head" and settings.train_frames:
        kept = _kept_seconds(found, settings) or kept
    cuts = [cut for cut in found.cuts if cut < kept]
    return f"at {', '.join(f'{cut:.2f}' for cut in cuts)} s" if cuts else None


def _animated(found: Measurement, settings: CheckSettings) -> str | None:
    return f"{found.seconds:g} s" if found.animated else None


def _too_short(found: Measurement, settings: CheckSettings) -> str | None:
    target = _target(settings)
    if target is None or found.kind != "clip" or not settings.train_frames or not target.short:
        return None
    fewest = min(max(1, target.valid_count(count)) for count in settings.train_frames)
    is_cut_to_length = target.keep in ("head", "middle")
    is_short = _kept_seconds(found, settings) is None if is_cut_to_length else found.frames < fewest
    return f"{found.frames} frames, {found.seconds:.2f} s: {target.short}" if is_short else None


def _frame_count(found: Measurement, settings: CheckSettings) -> str | None:
    target = _target(settings)
    if target is None or found.kind != "clip" or settings.train_frames or not target.counts:
        return None
    kept = target.valid_count(found.frames)
    return f"{found.frames}; {target.name} takes {target.counts}, so {kept}" if kept != found.frames else None


def _frame_rate(found: Measurement, settings: CheckSettings) -> str | None:
    """How the trainer changes the speed of the clip."""
    target = _target(settings)
    if target is None or found.kind != "clip" or not target.fps or not found.fps or target.keep == "whole":
        return None
    faster = found.fps - target.fps
    if abs(faster) <= MAX_RATE_DIFFERENCE or (faster > 0 and target.rate != "source"):
        return None
    effect = {
        "source": "not resampled, so motion becomes " + ("slower" if faster > 0 else "faster"),
        "at most": "no frames are added, so motion becomes faster",
        "model": "frames are repeated",
    }[target.rate]
    return f"{found.fps:.5g} frames a second; {target.name} trains at {target.fps:g}: {effect}"


def _small(found: Measurement, settings: CheckSettings) -> str | None:
    if settings.resolution is None or found.width * found.height >= settings.resolution**2:
        return None
    what = _SMALL.get(settings.trainer, "")
    return f"{found.width} x {found.height}" + (f": {what}" if what else "")


def _aspect(found: Measurement, settings: CheckSettings) -> str | None:
    widest = _WIDEST.get(settings.trainer)
    short, long = sorted((found.width, found.height))
    if widest is None or not short or long <= short * widest * 1.05:
        return None
    return f"{long / short:.2g}:1; of its longer side, {widest * short / long:.0%} remains ({widest:g}:1)"


def _turned(found: Measurement, settings: CheckSettings) -> str | None:
    if found.orientation == 1 or settings.trainer not in _IGNORE_EXIF:
        return None
    return f"the trainer gets it {_TURNED.get(found.orientation, 'sideways')}"


def _target(settings: CheckSettings) -> Target | None:
    return target_in_mode(settings.for_, settings.train_mode) if settings.for_ else None


def _kept_seconds(found: Measurement, settings: CheckSettings) -> float | None:
    """The length that the trainer keeps; None if the clip is shorter than all of them. Takes the rate as constant."""
    assert settings.for_ is not None and settings.train_frames is not None
    times = [number * found.seconds / found.frames for number in range(found.frames)]
    lengths = training_lengths(settings.for_, settings.train_frames, settings.train_mode)
    return longest_that_fits(lengths, Timeline(times, found.seconds))


@dataclass(frozen=True, slots=True)
class MediaRule(Rule):
    """A rule for measured files. check: returns the detail, None if the file is in order; without it, a comparison."""

    _: KW_ONLY
    check: Callable[[Measurement, CheckSettings], str | None] | None = None


# fmt: off
MEDIA_RULES: Mapping[str, MediaRule] = {
    "exact_copy": MediaRule(
        "note", "the same bytes as another file", "remove one of them, unless it is meant to count twice"),
    "near_copy": MediaRule(
        "note", "nearly the same picture as another file", "keep the best one, unless the difference is the point"),
    "blurred": MediaRule(
        "note", "blurred everywhere", "replace it with a sharper one, or leave it out", check=_blurred),
    "black_bars": MediaRule(
        "note", "black bars at its edges, which a model learns to draw", "crop them away", check=_black_bars),
    "blurred_bars": MediaRule(
        "note", "bars of one color or with a blurred copy of the picture, which a model learns to draw",
        "crop them away", check=_blurred_bars),
    "static_clip": MediaRule(
        "note", "a clip in which nothing moves", "train on one of its frames as an image, or leave it out",
        check=_static),
    "cut_inside": MediaRule(
        "error", "a cut inside a clip", "cut it into clips with `gemma-captioner split`",
        severity_for=_MULTI_SHOT, check=_cut),
    "animated_image": MediaRule(
        "note", "an animated image, captioned as a clip, of which trainers read the first frame",
        "convert it to .mp4, or caption it with --animated first", check=_animated),
    "clip_too_short": MediaRule(
        "note", "a clip shorter than what the trainer takes", "leave it out, or train on fewer frames",
        severity_for=_DROPPED, check=_too_short),
    "frame_count": MediaRule(
        "note", "a number of frames that the model does not take; the trainer drops or repeats some",
        "cut it with `gemma-captioner split --for`, if its end matters", check=_frame_count),
    "frame_rate": MediaRule(
        "note", "another frame rate than the model's, which changes its speed",
        "convert it to the model's rate with `gemma-captioner split --for`, or set the trainer's option",
        check=_frame_rate),
    "turned_by_exif": MediaRule(
        "error", "EXIF metadata turns the image, which the trainer ignores",
        "save it upright, for example with `magick mogrify -auto-orient`", check=_turned),
    "fewer_pixels": MediaRule(
        "note", "fewer pixels than --resolution", "replace it with a larger one, or train at a lower resolution",
        check=_small),
    "extreme_aspect": MediaRule(
        "note", "wider or taller than the trainer's buckets, so its ends are cut off", "crop it to what matters",
        check=_aspect),
}
# fmt: on


def match(found: Measurement, settings: CheckSettings) -> Iterator[tuple[str, str]]:
    """Yield (code, detail) for each rule that the file breaks."""
    for code, rule in MEDIA_RULES.items():
        if rule.check is not None and (detail := rule.check(found, settings)) is not None:
            yield code, detail
