"""Power failures. strace records a run's system calls. For the moment after each call, this builds the folder as a disk
could hold it, without the data that was not synced.

There are two kinds of disk. "Ordered", such as ext4 and APFS: names change in the order of the calls, the last changes
may be lost, and an fsync keeps all earlier changes. "Any", which gives only the guarantees of POSIX: each name that
changed since its folder was synced may be there or not. On both, any part of the bytes that were not synced may be
there.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .trial import Trial, TrialTally, case

_CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat"
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (\d+)", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|<((?:\\x[0-9a-f]{2})*)>')


@dataclass(eq=False)
class _Inode:
    data: bytes = b""
    synced: bytes = b""
    is_folder: bool = False


@dataclass
class _Change:
    """A change of one name to an inode, or its deletion (None)."""

    name: str
    to: _Inode | None
    is_synced: bool = False


@dataclass
class _Disk:
    root: str
    names: dict[str, _Inode] = field(default_factory=dict)  # as programs see them
    before: dict[str, _Inode] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)
    flushed: int = 0  # changes before the last fsync of anything

    @classmethod
    def of(cls, root: Path) -> "_Disk":
        disk = cls(str(root))
        for path in [root, *root.rglob("*")]:
            content = b"" if path.is_dir() else path.read_bytes()
            disk.before[str(path)] = _Inode(content, content, path.is_dir())
        disk.names = dict(disk.before)
        return disk

    def apply(self, call: str, text: list[str], arguments: str) -> None:
        match call:
            case "openat" if "O_CREAT" in arguments and self._is_ours(path := text[-1]):
                if path not in self.names:
                    self._change(path, _Inode())
                elif "O_TRUNC" in arguments:
                    self.names[path].data = b""
            case "write" | "pwrite64" if self._is_ours(text[0]) and text[0] in self.names:
                self.names[text[0]].data += text[1].encode("latin-1")
            case "fsync" | "fdatasync" if self._is_ours(text[0]) and (inode := self.names.get(text[0])):
                self.flushed = len(self.changes)
                inode.synced = inode.data
                for change in self.changes if inode.is_folder else ():
                    change.is_synced |= change.name.rpartition("/")[0] == text[0]
            case "rename" | "renameat" | "renameat2" if self._is_ours(text[-1]):
                old, new = text[0] if call == "rename" else text[-3], text[-1]
                inode = self.names[old]
                self._change(new, inode)
                self._change(old, None)
            case "link" | "linkat" if self._is_ours(text[-1]):
                self._change(text[-1], self.names[text[0] if call == "link" else text[-3]])
            case "unlink" | "unlinkat" if self._is_ours(text[-1]):
                self._change(text[-1], None)
            case "mkdir" | "mkdirat" if self._is_ours(text[-1]):
                self._change(text[-1], _Inode(is_folder=True))

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self.root + "/") or path == self.root

    def _change(self, name: str, to: _Inode | None) -> None:
        self.changes.append(_Change(name, to))
        if to is None:
            self.names.pop(name, None)
        else:
            self.names[name] = to

    def surviving_files(self, rng: Random, ordered: bool) -> dict[str, bytes | None]:
        """Return path -> content; None for a folder."""
        names = dict(self.before)
        last = rng.randint(self.flushed, len(self.changes))
        for number, change in enumerate(self.changes):
            if number < last if ordered else change.is_synced or rng.random() < 0.5:
                if change.to is None:
                    names.pop(change.name, None)
                else:
                    names[change.name] = change.to
        kept: dict[str, bytes | None] = {}
        for name in sorted(names):
            inode, parent = names[name], name.rpartition("/")[0]
            if name == self.root or parent in kept:  # a lost folder loses its contents
                grown = inode.data[len(inode.synced) :] if inode.data.startswith(inode.synced) else b""
                kept[name] = None if inode.is_folder else inode.synced + grown[: rng.randint(0, len(grown))]
        return kept


def _calls(log: Path) -> Iterator[tuple[str, list[str], str]]:
    """Yield (call, its strings and descriptor paths in order, its arguments as text)."""
    begun: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        process = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"\d+ +<\.\.\. \w+ resumed>(.*)", line):
            line = begun.pop(process) + resumed[1]
        if found := _LINE.match(line):
            text = [
                bytes.fromhex((one[1] or one[2] or "").replace("\\x", "")).decode("latin-1")
                for one in _STRING.finditer(found[3])
            ]
            yield found[2], text, found[3]


@case("power fails")
def power(base: Path, rng: Random, short: bool) -> TrialTally | str:
    """The run overwrites manual captions of half of the files. Each must exist somewhere at every moment."""
    if shutil.which("strace") is None:
        return "requires strace: apt-get install strace"
    trial = Trial(base, rng, 16, bad=0)
    old = {name: f"A manual caption of {name}." for name in list(trial.right)[::2]}
    for name, caption in old.items():
        (trial.media / name).write_text(caption, encoding="utf-8")
    disk, log = _Disk.of(trial.media), base / "calls"
    traced = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-e", f"trace={_CALLS}", "-o", str(log)]
    done = subprocess.run([*traced, *trial.command("--existing", "overwrite")], capture_output=True)
    if done.returncode and b"ptrace" in done.stderr:
        return "strace is not allowed to trace on this machine"
    tally = TrialTally(items=16, wrong_exit=int(done.returncode != 0))
    draws, resumed = (2, 1) if short else (20, 12)
    for call, text, arguments in _calls(log):
        if not any(disk._is_ours(one) for one in text):
            continue
        disk.apply(call, text, arguments)
        for ordered in (True, False):
            for _ in range(draws):
                tally.faults += 1
                _evaluate(disk.surviving_files(rng, ordered), trial, old, tally)
    assert {name: trial.captions()[name] for name in trial.right} == trial.right, "the run's captions are wrong"
    seen = {Path(n).name: i.data.decode() for n, i in disk.names.items() if n.endswith(".txt")}
    assert seen == trial.right, "the recorded calls do not reproduce the run"
    for number in range(resumed):
        tally += _resumed(base / f"again-{number}", log, trial, old, rng)
    return tally


def _evaluate(kept: dict[str, bytes | None], trial: Trial, old: dict[str, str], tally: TrialTally) -> None:
    captions = {Path(n).name: (c or b"").decode() for n, c in kept.items() if n.endswith(".txt")}
    tally.partial += sum(caption not in (trial.right[name], old.get(name)) for name, caption in captions.items())
    replaced = set()
    for name, content in kept.items():
        for raw in (content or b"").splitlines() if name.endswith(".jsonl") else ():
            try:
                replaced.add(json.loads(raw).get("replaced"))
            except ValueError:  # torn
                continue
    tally.lost += sum(captions.get(name) != words and words not in replaced for name, words in old.items())


def _resumed(base: Path, log: Path, trial: Trial, old: dict[str, str], rng: Random) -> TrialTally:
    """Rebuild the folder as the disk held it at a random moment, and run again."""
    disk = _Disk.of(trial.media)
    for name in [name for name in disk.names if "/.gemma-captioner" in name or name.endswith(".txt")]:
        del disk.names[name], disk.before[name]
    for name, words in old.items():
        path = str(trial.media / name)
        disk.before[path] = disk.names[path] = _Inode(words.encode(), words.encode())
    calls = [one for one in _calls(log) if any(disk._is_ours(text) for text in one[1])]
    for one in calls[: rng.randrange(len(calls))]:
        disk.apply(*one)
    again = Trial(base, rng, 0, bad=0)
    again._replies = trial._replies
    for name, content in disk.surviving_files(rng, ordered=False).items():
        path = again.media / Path(name).relative_to(trial.media)
        path.mkdir(exist_ok=True) if content is None else path.write_bytes(content)
    again.right = trial.right | {n: c for n, c in again.captions().items() if c == old.get(n)}  # manual captions stay
    again.check_captions()
    code, summary, _ = again.run()
    return again.evaluate(code, summary)
