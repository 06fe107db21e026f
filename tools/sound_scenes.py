"""Drawn scenes with a tone: what the sound checkpoint of the tests captions, as encoded clips.

A silent track and no track have the same caption, which names no tone.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np

from gemma_captioner.demo.drawing import Scene, draw, random_scene
from gemma_captioner.types import Pixels

RATE = 48000
LOW, HIGH = (150.0, 300.0), (900.0, 2000.0)  # Hz
TONES = ("low", "high", "rising", "falling", "none")
BRIGHT, DARK, MIN_RADIUS = ("red", "orange", "yellow", "green", "white"), ("blue", "purple", "black"), 12.0
WAVES = ("sine", "triangle", "square")
# suffix -> (codec of the frames, codec of the sound)
CODECS = {".mp4": ("libx264", "aac"), ".mkv": ("libx264", "libopus"), ".mov": ("libx264", "pcm_s16le")}


@dataclass(frozen=True)
class Tone:
    """A tone whose pitch changes evenly by ratio from `start` to `end` (Hz), in noise. Amplitudes are 0 to 1."""

    name: str
    start: float
    end: float
    wave: str
    amplitude: float
    noise: float
    seed: int

    def samples(self, seconds: float, rate: int = RATE) -> np.ndarray:
        """Return float32 [samples], -1 to 1, with 20 ms of fading at both ends."""
        time = np.arange(int(seconds * rate)) / rate
        growth = math.log(self.end / self.start) / seconds
        cycles = self.start * (np.expm1(growth * time) / growth if growth else time)
        sine = np.sin(2 * np.pi * cycles)
        shape = {"sine": sine, "triangle": 2 / np.pi * np.arcsin(sine), "square": 0.6 * np.sign(sine)}[self.wave]
        fading = np.clip(np.minimum(time, time[-1] - time) / 0.02, 0, 1)
        noise = np.random.default_rng(self.seed).standard_normal(len(time))
        return (self.amplitude * shape * fading + self.noise * noise).clip(-1, 1).astype(np.float32)


def random_tone(rng: Random, name: str | None = None) -> Tone:
    """Choose a tone at random, of all kinds equally often. A glide spans more than an octave."""
    name = name or rng.choice(TONES)
    low = rng.uniform(*LOW)
    pitches = {"low": (low, low), "none": (low, low)}
    if name == "high":
        pitches["high"] = (rng.uniform(*HIGH),) * 2
    elif name in ("rising", "falling"):
        bottom = LOW[0] * 4 ** rng.random()
        glide = bottom, bottom * rng.uniform(2.2, 4.5)
        pitches |= {"rising": glide, "falling": glide[::-1]}
    noise = rng.choice((0.0, 0.001, 0.003))
    tone = Tone(name, *pitches[name], rng.choice(WAVES), 0.05 * 16 ** rng.random(), noise, rng.randrange(2**32))
    return replace(tone, amplitude=0.0) if name == "none" else tone


def random_shape(rng: Random, *, clip: bool) -> Scene:
    """Choose a large bright shape on a dark background, which a small model learns several times faster than others."""
    while True:
        scene = random_scene(rng, clip=clip)
        if scene.color in BRIGHT and scene.background in DARK and scene.radius >= MIN_RADIUS:
            return scene


@dataclass(frozen=True)
class SoundScene:
    """A moving shape and a tone."""

    scene: Scene
    tone: Tone

    @property
    def caption(self) -> str:
        caption = self.scene.caption
        if self.tone.name == "none":
            return caption
        return f"{caption[:-1]} while a {self.tone.name} tone sounds."


def write_scenes(folder: Path, count: int, seed: int, *, fps: int = 12) -> dict[str, str]:
    """Write clips of one to two seconds. Returns file stem -> correct caption.

    Of the clips without a tone, one half has a silent track and the other half has none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = Random(seed)
    truth = {}
    for number in range(count):
        scene = SoundScene(random_shape(rng, clip=True), random_tone(rng))
        frames = draw(scene.scene, rng.randint(fps, 2 * fps))
        has_track = scene.tone.name != "none" or rng.random() < 0.5
        path = folder / f"{number:03d}-{scene.tone.name}{rng.choice(sorted(CODECS))}"
        write_clip(path, frames, scene.tone.samples(len(frames) / fps) if has_track else None, fps)
        truth[path.stem] = scene.caption
    return truth


def write_clip(path: Path, frames: Pixels, sound: np.ndarray | None, fps: int) -> None:
    """Encode frames, uint8 [n, height, width, 3], with the sound, float32 [samples] at 48 kHz."""
    picture_codec, sound_codec = CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(picture_codec, rate=Fraction(fps), options={"crf": "14"})
        pictures.width, pictures.height, pictures.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        sounds = None if sound is None else container.add_stream(sound_codec, rate=RATE, layout="stereo")
        for pixels in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(pictures.encode())
        if sounds is not None and sound is not None:
            encode_sound(container, sounds, sound)


def encode_sound(container: av.container.OutputContainer, stream: av.AudioStream, sound: np.ndarray) -> None:
    frame = av.AudioFrame.from_ndarray(np.stack([sound, sound]), format="fltp", layout="stereo")
    frame.rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    resampler = av.AudioResampler(stream.format.name, "stereo", RATE, stream.frame_size or None)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode())
