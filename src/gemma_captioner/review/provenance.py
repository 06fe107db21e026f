"""Where a caption comes from, in words; and how its model saw the media. Read from the journal when asked for."""

from typing import Any

from ..config.settings import Settings
from ..dataset.journal import JournalRecord
from ..media.settings import DecodeSettings
from ..pipeline.decoding import decode_settings
from .library import Entry, readable
from .origins import listed


def facts(entry: Entry) -> list[tuple[str, str]]:
    """(term, what is said of it), as text."""
    if entry.words.digest is None:
        return [("Caption", "none")]
    if entry.origin is None:
        return [("Caption", "written or edited by a person, or by another program")]
    line = entry.origin.line()
    told = [
        ("Model", " ".join(filter(None, (str(line.get("model", "")), str(line.get("revision") or ""))))),
        ("When", str(line.get("at", ""))[:19].replace("T", " ")),
        *_each("Prompt", listed(line, "prompts")),
        *_each("Raw reply", listed(line, "raw")),
        *_each("Another caption", listed(line, "captions")[1:]),
        *_each("Rejected", listed(line, "rejected")),
        ("Frames", _times(line) if line.get("media_kind") == "clip" else ""),
        ("Tokens", f"{line.get('prompt_tokens')} read, {line.get('new_tokens')} written in {line.get('seconds')} s"),
        ("Settings", _settings(entry.origin.told_settings())),
        ("Run", entry.origin.run.stem),
    ]
    return [(term, readable(said)) for term, said in told if said]


def way_of_seeing(entry: Entry, otherwise: Settings) -> DecodeSettings:
    """As its caption's run saw it; a clip that no run has captioned, as the next one would."""
    settings = (entry.origin.settings() if entry.origin else None) or otherwise
    return decode_settings(settings)


def _each(term: str, texts: list[Any]) -> list[tuple[str, str]]:
    return [(term, str(text)) for text in texts]


def _times(line: JournalRecord) -> str:
    return ", ".join(f"{time:.2f} s" for time in listed(line, "frame_times_s") if isinstance(time, int | float))


def _settings(said: dict[str, Any]) -> str:
    """Those that differ from the defaults."""
    default = Settings().model_dump(mode="json")
    return ", ".join(
        f"{knob.rstrip('_')} {value}"
        for group, knobs in said.items()
        if isinstance(knobs, dict)
        for knob, value in knobs.items()
        if group not in ("prompting", "conduct", "selection") and default.get(group, {}).get(knob) != value
    )
