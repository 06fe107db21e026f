"""Runs that are killed, stopped and interrupted at random moments, and repeated until the folder is complete."""

import json
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

from PIL import Image

from gemma_captioner.demo.samples import draw_samples
from tests.support.servers import HttpRequest, HttpResponse, StubServer, completion, prompt_of
from tests.support.sound import bursts, write_clip

from .trial import Trial, TrialTally, case

# As a shell sees them. A negative code means that the signal came while Python was still starting.
EXIT_CODES = {signal.SIGKILL: {-9}, signal.SIGINT: {130, -2}, signal.SIGTERM: {143, -15}}


def _interrupt_at_random(trial: Trial, most: int, span_s: float) -> int:
    """End runs until the folder is complete, or `most` times. Return the number."""
    done = 0
    while done < most and not trial.is_complete:
        process = trial.start()
        time.sleep(trial.rng.uniform(0, span_s))
        running, how = process.poll() is None, trial.rng.choice(list(EXIT_CODES))
        code = trial.ended(process, how)
        if running:
            done += 1
            finished = {3 if trial.bad else 0} if trial.is_complete else set()
            trial.tally.wrong_exit += code not in EXIT_CODES[how] | finished
        trial.check_captions()
    return done


def _run_campaign(base: Path, endings: int, span_s: float, new: Callable[[Path], Trial]) -> TrialTally:
    total, numbers = TrialTally(), count()
    while total.faults < endings:
        trial = new(base / str(next(numbers)))
        faults = _interrupt_at_random(trial, endings - total.faults, span_s)
        code, summary, _ = trial.run()
        total += trial.evaluate(code, summary)
        total.faults += faults
    return total


@case("ended at random, scripted engine")
def scripted(base: Path, rng: Random, short: bool) -> TrialTally:
    return _run_campaign(base, 3 if short else 80, 3.0, lambda at: Trial(at, rng, 150))


_SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("about", "labels")} | {"sound": {"type": "number"}},
    "required": ["about", "labels", "sound"],
}


@case("ended at random, all kinds of input")
def inputs(base: Path, rng: Random, short: bool) -> TrialTally:
    """Runs overwrite captions of edits and of clips with sound, in two prompts and with structured captions.

    A run that resumes an unfinished one makes none of its captions again. A caption holds what the model was given.
    """

    def new(at: Path) -> Trial:
        trial = Trial(at, rng, 0, delay_s=0.1)
        (control := at / "control").mkdir()
        sound = ("aac", 48_000, bursts(2.0, [1.0]))
        clip = write_clip(at / "clip.mp4", range(48), [sound]).read_bytes()
        for number in range(60):
            is_clip = number % 4 == 0
            path = trial.add(f"{number:05d}." + ("mp4" if is_clip else "png"), bad=number % 10 == 3)
            Image.new("RGB", (8, 8), "red").save(control / f"{path.stem}.png")
            if path.name in trial.bad:
                continue
            if is_clip:
                path.write_bytes(clip)
            labels, sound_s = ("Source image: Edited clip:", "2.0") if is_clip else ("Source image: Edited image:", "0")
            answer = '{"about":"%s","labels":"%s","sound":%s}'
            caption = answer % (path.name, labels, sound_s)
            trial.answers(path.name, caption, f"About {path.name}.", answer % (path.name, "{labels}", "{audio_s}"))
            trial.old[path.with_suffix(".txt").name] = "By a person."
            path.with_suffix(".txt").write_text("By a person.", encoding="utf-8")
        (schema := at / "schema.json").write_text(json.dumps(_SCHEMA), encoding="utf-8")
        trial.options += ["--existing", "overwrite", "--control", str(control), "--audio", "on"]
        trial.options += ["--format", str(schema), "--prompt", "Describe it.", "--prompt", "As JSON: {previous}"]
        return trial

    return _run_campaign(base, 3 if short else 60, 6.0, new)


@case("ended at random, local model")
def local(base: Path, rng: Random, short: bool) -> TrialTally:
    """The demo checkpoint captions drawn images and clips. An undisturbed run gives the correct captions."""

    def new(at: Path) -> Trial:
        trial = Trial(at, rng, 0)
        names = draw_samples(trial.media, images=60, clips=30, seed=rng.randrange(1 << 30))
        trial.options = ["--model", "demo", "--batch-size", "4"]
        code, _, _ = trial.run("--output", at / "alone")
        trial.right = {path.name: path.read_text(encoding="utf-8") for path in (at / "alone").glob("*.txt")}
        trial.tally.items, trial.tally.wrong_exit = len(names), int(code != 0 or len(trial.right) != len(names))
        return trial

    return _run_campaign(base, 2 if short else 60, 9.0, new)


@case("ended at random, server")
def server(base: Path, rng: Random, short: bool) -> TrialTally:
    def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(body=completion(f"A caption of {prompt_of(request)}."))

    with StubServer(answer, answer_s=0.1) as stub:

        def new(at: Path) -> Trial:
            trial = Trial(at, rng, 120)
            for name in trial.bad:  # the stub server refuses no request
                (trial.media / name).write_bytes(b"no image")
            trial.right = {name: f"A caption of {Path(name).stem}." for name in trial.right}
            trial.options = ["--engine", "server", "--base-url", stub.url, "--prompt", "{stem}", "--concurrency", "4"]
            return trial

        return _run_campaign(base, 2 if short else 40, 5.0, new)
