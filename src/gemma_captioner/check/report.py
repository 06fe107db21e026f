"""Reports the findings of a scan as an HTML page and as JSON. The page size is bounded; the JSON lists all findings."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import pages
from ..config.targets import token_limit
from ..text import printable
from .contact_sheet import cards
from .rules import Finding, Rule
from .scan import DatasetScan
from .trainer_rules import ALL_RULES
from .trigger.report import TriggerReport

_MAX_FILES_PER_RULE, _MAX_BARS, _MAX_COMMON = 20, 24, 10


def report_page(scan: DatasetScan, trigger: TriggerReport | None = None) -> str:
    codes = group_by_rule(scan.findings, scan.rules)
    stats, limit = scan.stats, token_limit(scan.settings.encoder_target)
    max_length = limit.max_tokens if limit else None
    return pages.render_page(
        "check.html",
        title=f"Check of {printable(scan.root.folder)}",
        scan=scan,
        encoder_target=scan.settings.encoder_target if limit else None,
        max_length=max_length,
        exact=scan.count_tokens is not None,
        codes=[
            (name, scan.rules[name], len(found), [_row(scan, f) for f in found[:_MAX_FILES_PER_RULE]])
            for name, found in codes.items()
        ],
        bars=bars(stats.lengths, max_length),
        longest=max(stats.lengths, default=0),
        over=sum(n for length, n in stats.lengths.items() if max_length and length > max_length),
        openings=_most_common(stats.openings, stats.captions),
        words=_most_common(stats.words, stats.captions),
        cards=cards(scan, codes),
        trigger=None if trigger is None else trigger.as_json(),
    )


def group_by_rule(findings: Iterable[Finding], rules: Mapping[str, Rule]) -> Mapping[str, list[Finding]]:
    """Group findings by rule code, errors first, then in table order."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.code, []).append(finding)
    order = sorted(rules, key=lambda code: rules[code].severity != "error")
    return {code: found[code] for code in order if code in found}


def _row(scan: DatasetScan, finding: Finding) -> tuple[str, str]:
    return scan.short(finding.path), printable(finding.detail)


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """Captions of `first` to `last` tokens or words. height: percent of the tallest bar. over: above the limit."""

    first: int
    last: int
    count: int
    height: float
    over: bool


def bars(lengths: Counter[int], max_length: int | None) -> list[HistogramBar]:
    """Build at most two dozen bars of a round width. `max_length` is the limit, None for no limit.

    # lengths 3, 4, 4, 61, max_length 75 -> 1-5: 3, 6-10: 0, ..., 61-65: 1
    """
    if not lengths:
        return []
    top = max(lengths)
    width = next(w for e in range(9) for w in (10**e, 2 * 10**e, 5 * 10**e) if w * _MAX_BARS >= top)
    counts = [0] * max(1, math.ceil(top / width))
    for length, count in lengths.items():
        counts[max(0, length - 1) // width] += count
    tallest = max(counts)
    return [
        HistogramBar(
            first + 1, first + width, count, 100 * count / tallest, max_length is not None and first >= max_length
        )
        for first, count in zip(range(0, top, width), counts, strict=True)
    ]


def _most_common(counts: Counter[str], captions: int) -> list[tuple[str, int, float]]:
    """(words, number of captions, percent of all captions)."""
    return [(words, count, 100 * count / captions) for words, count in counts.most_common(_MAX_COMMON)]


def as_json(
    scan: DatasetScan, seconds: float, report: Path | None, trigger: TriggerReport | None = None
) -> dict[str, Any]:
    """The object that --json prints."""
    findings = [
        {
            "path": f.path,
            "code": f.code,
            "severity": (rule := scan.rules[f.code]).severity,
            "what": describe(f),
            "remedy": rule.remedy,
        }
        | ({"other": f.other} if f.other else {})
        for f in scan.findings
    ]
    summary = {
        "files": scan.files,
        "captions": scan.stats.captions,
        "formats": dict(scan.formats),
        "errors": sum(f["severity"] == "error" for f in findings),
        "notes": sum(f["severity"] == "note" for f in findings),
        "fixed": [{"path": f.path, "code": f.code} for f in scan.fixed],
        "run": scan.run_id if scan.fixed else None,
        "report": str(report) if report else None,
        "seconds": round(seconds, 3),
        "findings": findings,
    } | ({} if trigger is None else {"trigger": trigger.as_json()})
    return summary | ({"names": scan.names.captions} if scan.names.captions else {})


def describe(finding: Finding) -> str:
    description = ALL_RULES[finding.code].description
    return f"{description}: {finding.detail}" if finding.detail else description
