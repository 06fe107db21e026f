"""Describes how a caption was made, from its journal record, which is read on demand."""

from typing import Any

from ..config.settings import Settings
from ..dataset.journal import JournalRecord, list_field
from ..media.settings import DecodeSettings
from ..pipeline.decoding import decode_settings
from ..text import encodable
from .library import ReviewItem


def describe_provenance(entry: ReviewItem) -> list[tuple[str, str]]:
    """Return (term, description) pairs."""
    if entry.caption.digest is None:
        return [("Caption", "none")]
    if entry.provenance is None:
        return [("Caption", "written or edited by a person, or by another program")]
    record = entry.provenance.record()
    details = [
        ("Model", " ".join(filter(None, (str(record.get("model", "")), str(record.get("revision") or ""))))),
        ("When", str(record.get("at", ""))[:19].replace("T", " ")),
        *_each("Prompt", list_field(record, "prompts")),
        *_each("Raw reply", list_field(record, "raw")),
        *_each("Alternative caption", list_field(record, "captions")[1:]),
        *_each("Rejected", list_field(record, "rejected")),
        ("Frames", _times(record) if record.get("media_kind") == "clip" else ""),
        ("Tokens", f"{record.get('prompt_tokens')} prompt, {record.get('new_tokens')} new, {record.get('seconds')} s"),
        ("Settings", _settings(entry.provenance.recorded_settings())),
        ("Run", entry.provenance.run.stem),
    ]
    return [(term, encodable(text)) for term, text in details if text]


def decode_settings_for(entry: ReviewItem, default: Settings) -> DecodeSettings:
    """Return the decode settings of the run that made the caption, else those of the next run."""
    settings = (entry.provenance.settings() if entry.provenance else None) or default
    return decode_settings(settings)


def _each(term: str, texts: list[Any]) -> list[tuple[str, str]]:
    return [(term, str(text)) for text in texts]


def _times(record: JournalRecord) -> str:
    return ", ".join(f"{time:.2f} s" for time in list_field(record, "frame_times_s") if isinstance(time, int | float))


def _settings(recorded: dict[str, Any]) -> str:
    """The settings that differ from the defaults."""
    default = Settings().model_dump(mode="json", by_alias=True)
    return ", ".join(
        f"{name.rstrip('_')} {value}"
        for group, fields in recorded.items()
        if isinstance(fields, dict)
        for name, value in fields.items()
        if group not in ("prompting", "conduct", "selection") and default.get(group, {}).get(name) != value
    )
