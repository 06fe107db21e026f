"""A comparison in the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..compare.comparison import CaptionResult, Comparison, VariantResults
from ..compare.report import errors, measures, rows, summary
from ..text import escape_controls


def as_text(comparison: Comparison) -> RenderableType:
    """Every file with its captions beneath one another, then the variants with their figures."""
    shown: list[RenderableType] = []
    for row in rows(comparison):
        shown.append(Text.assemble((row.name, "bold"), "  ", (row.about, "dim")))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=3, justify="right", style="bold cyan")
        grid.add_column(overflow="fold")
        for column, answer in row.answers:
            grid.add_row(column.variant.letter, _result_text(column, answer))
        shown += [grid, ""]
    shown.append(_summary_table(comparison.columns))
    for error, letters in errors(comparison).items():
        shown.append(Text(escape_controls(f"{', '.join(letters)} failed: {error}"), style="red"))
    return Group(*shown)


def _result_text(column: VariantResults, answer: CaptionResult) -> Text:
    if answer.error is not None:
        return Text(escape_controls(f"failed: {answer.error}"), style="red")
    said = Text.assemble(escape_controls(answer.caption), "\n", (", ".join(measures(column, answer)), "dim"))
    return said.append(f"  {', '.join(answer.flags)}", style="yellow") if answer.flags else said


def _summary_table(columns: Sequence[VariantResults]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", width=1, style="bold cyan")
    table.add_column("variant", overflow="fold")
    for heading in summary(columns[0]):
        table.add_column(heading, justify="right", no_wrap=True)
    for column in columns:
        name = Text(escape_controls(column.variant.name), style="red" if column.error else "")
        table.add_row(column.variant.letter, name, *summary(column).values())
    return table
