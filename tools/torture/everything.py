"""All faults in one run of 10,000 files, a tenth of them bad."""

import signal
import threading
import time
from pathlib import Path
from random import Random

from .names import ODD
from .trial import Trial, TrialTally, case


@case("everything in one run")
def everything(base: Path, rng: Random, short: bool) -> TrialTally:
    trial = Trial(base, rng, 200 if short else 10_000, delay_s=0.002)
    for name in ODD:
        trial.add(name)
    done = threading.Event()

    def disturb() -> None:
        """Create and delete other files in the folder, as other programs do."""
        while not done.wait(0.05):
            stranger = trial.media / f"stranger-{rng.randrange(20)}.tmp"
            stranger.touch() if rng.random() < 0.5 else stranger.unlink(missing_ok=True)

    other = threading.Thread(target=disturb)
    other.start()
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) * (1 if short else 3):
        process = trial.start()
        time.sleep(rng.uniform(0.5, 2.0 if short else 6.0))
        trial.tally.faults += process.poll() is None
        trial.ended(process, how)
        trial.check_captions()
    code, summary, _ = trial.run()
    done.set()
    other.join()
    for stranger in trial.media.glob("stranger-*"):
        stranger.unlink()
    trial.tally.faults += len(trial.bad) + len(ODD)
    return trial.evaluate(code, summary)
