"""Measures what the sound of a clip costs: processor time to decode it, as a share of that for the frames.

python benchmarks/sound.py                             # draws its files first; prints a Markdown table

frames: 12 frames of 896 x 896, as for Gemma 3. samples: the bytes that go to the model's process.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from gemma_captioner.media.audio import decode_audio
from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip, read_timeline

SECONDS, FPS, ROUNDS = 5, 30, 9
CASES = (("mp4", "aac", 48_000), ("mkv", "libopus", 48_000), ("mov", "pcm_s16le", 48_000))


def draw(path: Path) -> None:
    """Write 5 s of H.264 in 1080p: a view that moves over a rough ground, with grain."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(40, 216, (68, 160)), np.ones((16, 16))).astype(np.int16)
    grain = rng.integers(-7, 8, ground.shape, np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for number in range(SECONDS * FPS):
            x = 4 * number
            gray = (ground[:1080, x : x + 1920] + np.roll(grain, 37 * number)[:1080, :1920]).clip(0, 255)
            frame = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def add_sound(silent: Path, path: Path, codec: str, rate: int) -> None:
    """Copy the frames, and add a stereo track of pink-like noise."""
    noise = np.cumsum(np.random.default_rng(0).normal(0, 0.01, (2, SECONDS * rate)), axis=1)
    samples = (noise - np.linspace(0, 1, noise.shape[1]) * noise[:, -1:]).clip(-1, 1).astype(np.float32)
    with av.open(str(silent)) as source, av.open(str(path), "w") as to:
        video = to.add_stream_from_template(source.streams.video[0])
        sound = to.add_stream(codec, rate=rate, layout="stereo")
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        for packet in packets:
            packet.stream = video
        resampler = av.AudioResampler(sound.format.name, "stereo", rate, sound.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            packets += sound.encode(piece)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            to.mux(packet)


def measure(work: Callable[[], object]) -> float:
    """Return the processor time in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    print("| clip of 5 s, 1080p | frames, ms | sound, ms | share | samples, kB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        draw(silent := Path(folder) / "silent.mp4")
        for container, codec, rate in CASES:
            add_sound(silent, path := Path(folder) / f"{codec}.{container}", codec, rate)
            timeline = read_timeline(path)
            heard, _ = decode_audio(path, timeline, 0.0, timeline.duration, 30.0)
            assert heard is not None
            rounds = [
                (
                    measure(lambda path=path: decode_clip(path, (896, 896), DecodeSettings())),
                    measure(lambda path=path, t=timeline: decode_audio(path, t, 0.0, t.duration, 30.0)),
                )
                for _ in range(ROUNDS)
            ]
            frames_s, sound_s = (statistics.median(times) for times in zip(*rounds, strict=True))
            share = statistics.median(sound / frames for frames, sound in rounds)
            cells = f"{1000 * frames_s:.0f} | {1000 * sound_s:.0f} | {share:.1%}"
            print(f"| {container}, {codec} | {cells} | {heard.samples.nbytes / 1000:.0f} |", flush=True)


if __name__ == "__main__":
    main()
