"""Saves and loads setups, and shows the command line of the chosen options."""

import asyncio
from typing import TYPE_CHECKING

from nicegui import ui

from ...errors import CaptionerError, UsageError
from ...pipeline.dry_run import dry_run
from ...text import encodable
from ..run_setup import config_text, equivalent_command, has_tables
from ..saved_setups import SavedSetups
from .components import StatusLine
from .option_fields import OptionFields

if TYPE_CHECKING:
    from .tab import ReviewTab

# `navigator.clipboard` exists only on this machine and over https.
_COPY = """() => {
    const text = document.querySelector(".command-line").textContent;
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    getSelection().selectAllChildren(document.querySelector(".command-line"));
    document.execCommand("copy");
}"""


class SetupBar:
    """Loads and saves the setup of `fields`, which is set after both are built."""

    fields: OptionFields

    def __init__(self, tab: "ReviewTab") -> None:
        root = tab.review_state.library.root
        self._folder, self._setups = root.folder, SavedSetups(root.store)
        with ui.element("div").classes("command"):
            self._command = ui.label().classes("command-line").props('role=textbox aria-label="Command line"')
            copy = ui.button("Copy").on("click", js_handler=_COPY).props("outline dense no-caps")
            copy.on("click", lambda: ui.notify("copied", timeout=1200, position="bottom-left")).classes("do-copy")
        self._note = ui.label().classes("muted")
        with ui.element("div").classes("actions setups"):
            self._name = ui.input(placeholder="Name of a setup", autocomplete=self._setups.names())
            self._name.props('dense outlined aria-label="Name of a setup"').classes("choice")
            ui.button("Save", on_click=self._save).props("outline dense no-caps").classes("do-save-setup")
            self._load = ui.select(self._setups.names(), label="Load a setup", on_change=self._on_load)
            self._load.props("dense outlined options-dense").classes("choice")
            ui.button("Dry run", on_click=self._dry_run).props("outline dense no-caps").classes("do-dry-run")
        self._status = StatusLine("setup-status")

    def refresh(self) -> None:
        """Show the command line of the fields, or why they are invalid."""
        try:
            settings = self.fields.settings()
        except UsageError as error:
            self._command.text, self._note.text = "", encodable(str(error))
            self._note.classes(replace="fault")
            return
        self._command.text = encodable(equivalent_command(settings, self._folder))
        self._note.classes(replace="muted")
        tables = "[image] and [clip] are in a config file only: save the setup, and give it with --config"
        self._note.text = tables if has_tables(settings) else ""

    def _save(self) -> None:
        name = (self._name.value or "").strip()
        try:
            path = self._setups.save(name, config_text(self.fields.settings(), "gemma-captioner caption --config"))
        except UsageError as error:
            self._status.report(str(error))
            return
        names = self._setups.names()
        self._name.set_autocomplete(names)
        self._load.set_options(names)
        self._status.report(f"saved: gemma-captioner caption {self._folder} --config {path}")

    def _on_load(self) -> None:
        if not self._load.value:
            return
        try:
            self.fields.load(self._setups.read(self._load.value))
            self._name.value = self._load.value
            self._status.report("")
        except UsageError as error:
            self._status.report(str(error))

    async def _dry_run(self) -> None:
        """Show what the run would do."""
        self._status.report("Looking at the folder")
        try:
            settings = self.fields.settings()
            found = await asyncio.to_thread(dry_run, [self._folder], settings)
            self._status.report(found.as_text())
        except CaptionerError as error:
            self._status.report(str(error))
