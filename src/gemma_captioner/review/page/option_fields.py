"""The fields for the options of a run, generated from the settings: the common ones, and groups that open."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from ...config.settings import Settings
from ...errors import UsageError
from ...text import counted, encodable
from ..run_options import (
    COMMAND_LINE_ONLY,
    PROMPT_SEPARATOR,
    RunOption,
    fields_of,
    option_groups,
    parse_fields,
    shown_value,
    value_of,
)

if TYPE_CHECKING:
    from .tab import ReviewTab

_PROMPTS = ("prompt", "prompt_file", "preset")  # any of them replaces those of the command line
_MAX_PLACEHOLDER = 200


class OptionFields:
    """An empty field keeps the setting of the command line, which it shows.

    changed: called after each change. A group is built when it is first opened.
    """

    def __init__(self, tab: "ReviewTab", *, of_files: bool = False, changed: Callable[[], None] = lambda: None) -> None:
        """of_files: for a run over chosen files, not over the folder."""
        self._tab, self._changed = tab, changed
        self._texts: dict[str, str] = {}  # field -> what was entered
        self._tables: dict[str, Any] = {}  # [image] and [clip] of a loaded setup
        self._fields: dict[str, tuple[RunOption, Any]] = {}
        self._groups: dict[str, tuple[ui.expansion, list[RunOption]]] = {}
        (_, common), *groups = option_groups(of_files=of_files)
        with ui.element("div").classes("fields"):
            for option in common:
                self._add_field(option)
        for title, options in groups:
            with ui.expansion(title).props("dense").classes("option-group") as group:
                body = ui.element("div").classes("fields")
            self._groups[title] = group, options
            group.on_value_change(partial(self._build, body, options))
        reasons = "; ".join(
            f"{why} ({', '.join(name.replace('_', '-') for name in names)})" for why, names in COMMAND_LINE_ONLY.items()
        )
        ui.label(f"On the command line only: {reasons}.").classes("muted")
        self._show_effective()

    def _build(self, body: ui.element, options: list[RunOption], event: ValueChangeEventArguments[Any]) -> None:
        if event.value and options[0].name not in self._fields:
            with body:
                for option in options:
                    self._add_field(option)
            self._show_effective()

    def _add_field(self, option: RunOption) -> None:
        value, on_change = self._texts.get(option.name, ""), partial(self._enter, option.name)
        field: Any
        if option.choices:
            choices = {"": "", **option.choices}
            field = ui.select(choices, label=option.label, value=value, on_change=on_change)
        elif option.is_long or option.is_repeatable:
            field = ui.textarea(option.label, value=value, on_change=on_change).props("autogrow debounce=300 rows=1")
        else:
            field = ui.input(
                option.label, value=value, on_change=on_change, autocomplete=list(option.suggestions) or None
            ).props("debounce=300")
        field.props("dense outlined stack-label dir=auto").classes("wide" if option.name == "prompt" else "")
        hint = " One per line." if option.is_repeatable else ""
        if option.name == "prompt":
            hint = f" Several: a line with {PROMPT_SEPARATOR} between them."
        field.tooltip(option.help + hint)
        self._fields[option.name] = option, field

    def _enter(self, name: str, event: ValueChangeEventArguments[Any]) -> None:
        self._texts[name] = str(event.value or "")
        self._show_effective()
        self._changed()

    def _show_effective(self) -> None:
        """Show in each empty field the value that applies: of the command line, a preset or a trainer."""
        try:
            settings = self.settings()
        except UsageError:
            return  # shown where the run is started
        for name, (option, field) in self._fields.items():
            shown = shown_value(name, value_of(settings, name))
            if name == "prompt" and not shown:
                shown = " / ".join(dict.fromkeys(settings.prompts["image"]))
            shown = encodable(" ".join(shown.split()))[:_MAX_PLACEHOLDER]
            if isinstance(field, ui.select):
                choices: dict[str, str] = dict(field.options)
                choices[""] = choices.get(shown, shown)
                if choices != field.options:
                    field.set_options(choices, value=field.value)
            elif field.props.get("placeholder") != (shown or option.hint):
                field.props["placeholder"] = shown or option.hint
        for title, (group, options) in self._groups.items():
            entered = sum(bool(self._texts.get(option.name)) for option in options)
            group.text = f"{title}: {counted(entered, 'option')} set" if entered else title

    def load(self, values: Mapping[str, Any]) -> None:
        """Fill the fields from a config file. Its other settings, such as secrets, are left out."""
        self._tables = {name: values[name] for name in ("image", "clip") if name in values}
        self._texts = fields_of(values)
        for name, (_, field) in self._fields.items():
            field.value = self._texts.get(name, "")
        self._show_effective()
        self._changed()

    def settings(self, **defaults: Any) -> Settings:
        """defaults: settings that a field overrides. Raises `UsageError` for invalid settings."""
        review_state = self._tab.review_state
        folder, given = review_state.library.root.folder, review_state.settings
        chosen = defaults | self._tables | parse_fields(self._texts, folder, given)
        return review_state.settings_with(chosen, replaces_prompts=any(name in chosen for name in _PROMPTS))

    def settings_or_notify(self, **defaults: Any) -> Settings | None:
        """Return None for invalid settings, after a notification."""
        try:
            return self.settings(**defaults)
        except UsageError as error:
            ui.notify(encodable(str(error)), type="warning", timeout=8000)
            return None
