"""Reads the results of a run."""

import json
from pathlib import Path
from typing import Any


def captions(folder: Path) -> dict[str, str]:
    """Return the content of every `.txt` below `folder`, by relative path."""
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.txt"))}


def journal(folder: Path) -> list[dict[str, Any]]:
    """Return all records of a folder's journal."""
    runs = sorted((folder / ".gemma-captioner" / "runs").glob("*.jsonl"))
    return [json.loads(line) for run in runs for line in run.read_text().splitlines()]
