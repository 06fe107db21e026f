"""Unusual file names, and folder entries that are not regular files."""

import os
import socket
from pathlib import Path
from random import Random

from PIL import Image

from .trial import Trial, TrialTally, case

ODD = (
    "two\nlines.png", "tab\there.png", "\N{GRINNING FACE}.png", "family \N{WOMAN}\u200d\N{MAN}.png", "trailing...png",
    "space .png", " leading.png", "\u202egnp.evil.png", "e\u0301.png", "\xe9.png", "CON.png", "NUL.txt.png", "a:b.png",
    "-rf.png", "--json.png", "$(touch x).png", "'\"`.png", "[bold]red.png", "%s%n.png", "{stem}.png", "a\\b.png",
    "UPPER.PNG", "upper.png", "Upper.Png", "*?.png", "\x1b[31mred.png", "\x7f.png", "\u2028.png", "a" * 251 + ".png",
    "\N{GRINNING FACE}" * 62 + ".png",
)  # fmt: skip


@case("names that nobody expects")
def names(base: Path, rng: Random, short: bool) -> TrialTally:
    """Includes special files, link loops, and folders with image names."""
    trial = Trial(base, rng, 10)
    for name in ODD:
        trial.add(name)
    raw = os.fsencode(trial.media) + b"/\xff\xfe.png"
    Image.new("RGB", (8, 8)).save(base / "plain.png")
    os.rename(base / "plain.png", raw)
    trial.answers(os.fsdecode(b"\xff\xfe.png"), "A caption of a name that is not UTF-8.")
    (trial.media / "loop.png").symlink_to(trial.media / "loop.png")
    (trial.media / "nowhere.png").symlink_to(base / "nothing.png")
    trial.bad |= {"loop.png", "nowhere.png"}
    (trial.media / "round").symlink_to(trial.media)
    (trial.media / "folder.png").mkdir()
    os.mkfifo(trial.media / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(trial.media / "socket.png"))
    if os.geteuid() == 0:
        os.mknod(trial.media / "device.png", 0o20666, os.makedev(1, 5))  # /dev/zero
    trial.tally.faults = len(ODD) + 8
    code, summary, _ = trial.run("--recursive")
    tally = trial.evaluate(code, summary)
    again, summary, _ = trial.run("--recursive")  # a second run must not caption anything again
    tally.wrong_exit += again != 3
    return trial.evaluate(again, summary)
