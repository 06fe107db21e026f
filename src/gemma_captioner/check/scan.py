"""Scans a dataset folder by folder for problems; with --fix, repairs captions where a rule can."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

from ..captions.formats import CaptionFormat
from ..captions.stats import CaptionStats, match_captions
from ..dataset import sidecar
from ..dataset.containment import RESTORABLE_SUFFIXES, is_inside
from ..dataset.discover import Root
from ..dataset.journal import History, Journal, change_record, new_run_id
from ..dataset.listing import filename_normalizer
from ..errors import ItemError
from ..prompts.sources import exclude_control
from ..text import printable
from . import trainer_rules
from .inspect import MAX_CAPTION_BYTES, Inspection, inspect_caption
from .listing import Listing, caption_name, walk_folders
from .names import NameOccurrences
from .pairs import PairChecks
from .rules import Finding, Rule
from .settings import CheckSettings
from .sound import invents_sound


@dataclass
class DatasetScan:
    """Scans one dataset. `run` fills: files (images and clips), fixed (repaired findings), findings (the others)."""

    root: Root
    settings: CheckSettings
    count_tokens: Callable[[str], int] | None = None
    caption_format: CaptionFormat[Any] | None = None  # of --format
    files: int = 0
    findings: list[Finding] = field(default_factory=list)
    fixed: list[Finding] = field(default_factory=list)
    stats: CaptionStats = field(default_factory=CaptionStats)
    formats: Counter[str] = field(default_factory=Counter)  # of the captions
    media_of: dict[str, str] = field(default_factory=dict)  # caption -> media, by path
    media: list[Path] = field(default_factory=list)  # with --media
    unsearched: list[Path] = field(default_factory=list)  # the subfolders, without --recursive
    run_id: str = field(default_factory=new_run_id)
    on_caption: Callable[[str, Inspection], None] = lambda path, inspection: None  # each caption with words
    names: NameOccurrences = field(default_factory=lambda: NameOccurrences(()))  # of --examples

    def run(self, *, fix: bool, on_progress: Callable[[int], None] = lambda files: None) -> None:
        """Scan all folders. on_progress: called after each caption with the number of images and clips so far.

        Raises:
            StorageError: --fix cannot write at all. The journal has the repairs made before.
        """
        history = History(self.root.store)
        pairs = PairChecks(self.settings)
        self.names = NameOccurrences(self.settings.examples)
        settings = exclude_control(self.settings, [self.root], self.settings.control)
        journal = Journal(self.run_id, {"version": version("gemma-captioner"), "fixes": str(self.root.folder)})
        try:
            for listing in walk_folders(self.root, settings):
                self._check_names(listing)
                if not settings.recursive:
                    self.unsearched += (listing.folder / name for name in listing.folders)
                if self.settings.media:
                    self.media += (listing.folder / name for name in listing.media if name not in listing.empty_media)
                for name in listing.media:
                    for found, code, detail in pairs.check(listing.folder, listing.relative_path, name):
                        self._add_finding(found, code, detail)
                name_of = partial(caption_name, settings=self.settings)
                normalize = filename_normalizer(listing.captions_folder)
                matched = match_captions(listing.media, listing.captions, name_of, normalize)
                for caption, media, caption_exists in matched:
                    self.files += len(media)
                    path = listing.captions_folder / caption
                    self._check_pair(listing, path, media, caption_exists)
                    if caption_exists:
                        self._check_caption(path, history, journal if fix else None)
                    on_progress(self.files)
        finally:
            journal.close()
        for source in pairs.extra():
            self._add_finding(source, "extra_source")
        for name in self.names.unused:
            self._add_finding(self.root.folder, "name_unused", name)
        for names in self.stats.duplicates():
            suffix = f" and {len(names) - 2} more" if len(names) > 2 else ""
            for name in names:
                other = names[1] if name is names[0] else names[0]
                self._add_finding(name, "duplicate", f"same as {Path(other).name}{suffix}")

    @cached_property
    def rules(self) -> Mapping[str, Rule]:
        """The rules, with their severities for the target."""
        trainer, model = self.settings.trainer, self.settings.model
        return {code: rule.for_target(trainer, model) for code, rule in trainer_rules.ALL_RULES.items()}

    @property
    def can_undo(self) -> bool:
        """Whether `restore` writes what was repaired: not other extensions, nor behind a link out of the folder."""
        store = os.path.realpath(self.root.store)
        are_inside = all(is_inside(os.path.realpath(finding.path), store) for finding in self.fixed)
        return are_inside and f".{self.settings.extension.lower()}" in RESTORABLE_SUFFIXES

    @property
    def undo_command(self) -> str:
        """The command that undoes --fix."""
        return printable(f"gemma-captioner restore {self.run_id} {quote(str(self.root.store))}")

    def short(self, path: str) -> str:
        """The path within the dataset or --captions, printable on any stream."""
        folders = (self.root.folder, self.root.captions)
        relative_path = (Path(path).relative_to(folder) for folder in folders if Path(path).is_relative_to(folder))
        return printable(next(relative_path, Path(path)))

    def _add_finding(self, path: Path | str, code: str, detail: str = "") -> None:
        self.findings.append(Finding(str(path), code, detail))

    def _check_names(self, listing: Listing) -> None:
        if listing.error:
            self._add_finding(listing.folder, "unreadable", listing.error)
        for name in sorted(listing.empty_media):
            self._add_finding(listing.folder / name, "empty_media")
        for code, name, detail in trainer_rules.match_folder(listing, self.settings):
            self._add_finding(listing.folder / name, code, detail)

    def _check_pair(self, listing: Listing, path: Path, media: tuple[str, ...], caption_exists: bool) -> None:
        if not media:
            self._add_finding(path, "no_media")
            return
        self.media_of[str(path)] = str(listing.folder / media[0])
        for name in media:
            if len(media) > 1:
                others = ", ".join(other for other in media if other != name)
                self._add_finding(listing.folder / name, "collision", f"{path.name} is also the caption of {others}")
            if not caption_exists:
                similar_name = listing.similar_name(name)
                hint = f"{similar_name} exists: set --name or --extension, or rename it" if similar_name else ""
                self._add_finding(listing.folder / name, "no_caption", hint)
            elif also := listing.other_captions(name, self.settings.extension):
                self._add_finding(listing.folder / name, "other_caption", f"{', '.join(also)} beside {path.name}")

    def _check_caption(self, path: Path, history: History, journal: Journal | None) -> None:
        try:
            with path.open("rb") as file:
                content = file.read(MAX_CAPTION_BYTES + 1)
        except OSError as error:
            self._add_finding(path, "unreadable", error.strerror or "")
            return
        caption_file = path.relative_to(self.root.store).as_posix()
        record = history.caption_record(caption_file, sidecar.digest(content))
        flags = record.flags if record is not None else None
        inspection = inspect_caption(content, self.settings, self.count_tokens, flags, self.caption_format)
        if journal is not None and inspection.fixed_bytes is not None:
            try:
                self._fix(path, content, inspection.fixed_bytes, [code for code, _ in inspection.findings], journal)
            except ItemError as error:
                self._add_finding(path, "unfixable", str(error))
            else:
                inspection = inspect_caption(
                    inspection.fixed_bytes, self.settings, self.count_tokens, flags, self.caption_format
                )
        for code, detail in inspection.findings:
            self._add_finding(path, code, detail)
        media = self.media_of.get(str(path))
        if media is not None and flags is None and invents_sound(Path(media), inspection.text, self.settings):
            self._add_finding(path, "sound_invented", "the clip has no audio track")
        if inspection.text:
            self.stats.add(str(path), inspection.text, inspection.length)
            self.names.add(str(path), inspection.text)
            self.formats[inspection.format] += 1
            self.on_caption(str(path), inspection)

    def _fix(self, path: Path, content: bytes, fixed_bytes: bytes, found: list[str], journal: Journal) -> None:
        store = self.root.store
        codes = [code for code in found if trainer_rules.ALL_RULES[code].fixed]
        name = path.relative_to(store).as_posix()
        record = change_record("fix", name, name, content, fixed_bytes) | {"faults": codes}
        sidecar.write(path, fixed_bytes, store, lambda: journal.append(store, record), expected=content)
        self.fixed += (Finding(str(path), code) for code in codes)
