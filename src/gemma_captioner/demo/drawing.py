"""The scenes that the demo checkpoint can caption: one filled shape on a plain background, still or in even motion.

Training, grading, the sample media and the tests all use these drawings, with `Scene.caption` as the correct caption.
The module does not depend on files or models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from ..types import Pixels

SIZE = 64
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 215, 50),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
Motion = Literal["left", "right", "up", "down", "still"]
MOTIONS: tuple[Motion, ...] = ("left", "right", "up", "down", "still")
RADIUS = (9.0, 18.0)
_SUPERSAMPLING = 4

Points = list[tuple[float, float]]


def _corners(x: float, y: float, radii: list[float], first_angle: float) -> Points:
    """Corners around (x, y), one for each radius, the first at `first_angle` degrees (0 is right, 90 is down)."""
    step = 360 / len(radii)
    angles = [math.radians(first_angle + step * i) for i in range(len(radii))]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _circle(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fullness: float) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=255)


def _square(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fullness: float) -> None:
    draw.polygon(_corners(x, y, [r * (1.05 + 0.35 * fullness)] * 4, 45), fill=255)


def _triangle(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fullness: float) -> None:
    draw.polygon(_corners(x, y, [r * (1 + 0.2 * fullness)] * 3, -90), fill=255)


def _star(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fullness: float) -> None:
    draw.polygon(_corners(x, y, [r, r * (0.38 + 0.1 * fullness)] * 5, -90), fill=255)


SHAPES: dict[str, Callable[[ImageDraw.ImageDraw, float, float, float, float], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
}


@dataclass(frozen=True)
class Scene:
    """One shape in an image or a clip. `start` and `end` are its center in the first and the last frame, in pixels.

    `fullness`, 0 to 1, varies its proportions: how wide a square or a triangle is, how deep a star's notches are.
    """

    shape: str
    color: str
    background: str
    radius: float
    fullness: float
    start: tuple[float, float]
    end: tuple[float, float]
    motion: Motion | None  # None: an image

    @property
    def caption(self) -> str:
        moves = {None: "", "still": " stays still"}.get(self.motion, f" moves {self.motion}")
        start = f"{_article(self.color).capitalize()} {self.color} {self.shape}{moves}"
        return f"{start} on {_article(self.background)} {self.background} background."


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def draw(scene: Scene, num_frames: int = 1) -> Pixels:
    """Draw the scene at `num_frames` evenly spaced moments: uint8 [num_frames, 64, 64, 3]."""
    frames = []
    for i in range(num_frames):
        t = i / max(1, num_frames - 1)
        x, y = (a + (b - a) * t for a, b in zip(scene.start, scene.end, strict=True))
        frames.append(_draw_one(scene, x, y))
    return np.stack(frames)


def _draw_one(scene: Scene, x: float, y: float) -> Pixels:
    s = _SUPERSAMPLING
    mask = Image.new("L", (SIZE * s, SIZE * s))
    SHAPES[scene.shape](ImageDraw.Draw(mask), x * s, y * s, scene.radius * s, scene.fullness)
    image = Image.new("RGB", (SIZE, SIZE), COLORS[scene.background])
    image.paste(COLORS[scene.color], mask=mask.reduce(s))
    return np.asarray(image)


def random_scene(rng: Random, *, clip: bool) -> Scene:
    """Choose a scene uniformly at random. The same seed gives the same scene on every machine."""
    color, background = rng.sample(sorted(COLORS), 2)
    radius = rng.uniform(*RADIUS)
    low, high = radius, SIZE - radius
    start = end = (rng.uniform(low, high), rng.uniform(low, high))
    motion = rng.choice(MOTIONS) if clip else None
    if motion and motion != "still":
        near, far = low + rng.uniform(0, 4), high - rng.uniform(0, 4)
        a, b = (near, far) if motion in ("right", "down") else (far, near)
        sideways = motion in ("left", "right")
        start, end = ((a, start[1]), (b, start[1])) if sideways else ((start[0], a), (start[0], b))
    shape = rng.choice(sorted(SHAPES))
    return Scene(shape, color, background, radius, rng.random(), start, end, motion)
