"""Runs that are killed, stopped and interrupted at random moments, and repeated until the folder is complete."""

import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

from gemma_captioner.demo.samples import draw_samples
from tests.support.servers import HttpRequest, HttpResponse, StubServer, completion, prompt_of

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
