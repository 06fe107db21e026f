"""Measures what the sound of a clip costs: processor time to decode it, as a share of that for the frames.

python benchmarks/sound.py                             # draws its files first; prints a Markdown table

frames: 12 frames of 896 x 896, as for Gemma 3. samples: the bytes that go to the model's process.
"""

import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from material import SECONDS, clip

from gemma_captioner.media.settings import DecodeSettings
from gemma_captioner.media.video import decode_clip
from gemma_captioner.types import Frames

ROUNDS = 7
CASES = (  # video codec, container, sound codec, rate
    ("libx264", "mp4", "aac", 48_000),
    ("libx264", "mkv", "libopus", 48_000),
    ("libx264", "mov", "pcm_s16le", 48_000),
)


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


def measure(path: Path, max_audio_s: float) -> tuple[float, Frames]:
    start = time.process_time()
    frames = decode_clip(path, (896, 896), DecodeSettings(max_audio_s=max_audio_s))
    return time.process_time() - start, frames


def main() -> None:
    print("| clip of 5 s | frames, ms | sound, ms | share | samples, kB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        silent = {codec: Path(folder) / f"{codec}.mp4" for codec in dict.fromkeys(case[0] for case in CASES)}
        for codec, path in silent.items():
            clip(path, 1, codec)
        for video, container, codec, rate in CASES:
            path = Path(folder) / f"{video}-{codec}.{container}"
            add_sound(silent[video], path, codec, rate)
            rounds = [(measure(path, 0.0)[0], measure(path, 30.0)) for _ in range(ROUNDS)]
            frames_s = statistics.median(without for without, _ in rounds)
            share = statistics.median((with_sound[0] - without) / without for without, with_sound in rounds)
            audio = rounds[0][1][1].audio
            assert audio is not None
            print(
                f"| {video}, {container}, {codec} | {1000 * frames_s:.0f} | {1000 * share * frames_s:.0f} | "
                f"{share:.1%} | {audio.samples.nbytes / 1000:.0f} |"
            )


if __name__ == "__main__":
    main()
