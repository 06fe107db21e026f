"""The shown items, the current item and the selected items. Independent of the browser."""

from collections.abc import Callable


class Selection:
    """Items by number. The current item may be hidden by the filter, for example while it is edited."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        self.current: int | None = None
        self.selected: set[int] = set()
        self._places: dict[int, int] = {}  # number -> index in `shown`
        self._last_place = 0  # index of the current item when it was last shown
        self._anchor: int | None = None  # first item of a Shift selection
        self._picked: int | None = None  # the item of the last pick without Shift and Ctrl

    def __contains__(self, number: int | None) -> bool:
        """Whether the item is shown."""
        return number in self._places

    @property
    def place(self) -> int:
        """The index of the current item in `shown`."""
        return self._last_place if self.current is None else self._places.get(self.current, self._last_place)

    @property
    def selected_in_order(self) -> list[int]:
        return [number for number in self.shown if number in self.selected]

    def show(self, numbers: list[int]) -> None:
        """Replace the shown items. Hidden items are deselected; the current item stays."""
        self._last_place = self.place
        self.shown = numbers
        self._places = {number: place for place, number in enumerate(numbers)}
        self.selected = self.selected & self._places.keys()

    def reselect_hidden(self, *, first: bool = False) -> None:
        """If the current item is hidden, make the item at its index current, or with `first` the first one."""
        if self.current not in self:
            place = 0 if first else min(self._last_place, len(self.shown) - 1)
            self.current = self.shown[place] if self.shown else None

    # Navigation

    def step(self, offset: int) -> None:
        """Move by so many items, up to the first or last."""
        if self.shown:
            offset -= offset > 0 and self.current not in self  # the next item already has the index of the hidden one
            self.current = self.shown[min(max(self.place + offset, 0), len(self.shown) - 1)]

    def seek(self, direction: int, matches: Callable[[int], bool]) -> bool:
        """Move to the next item that matches, wrapping around. Return whether there is one."""
        around = (self.shown[(self.place + direction * n) % len(self.shown)] for n in range(1, len(self.shown) + 1))
        found = next(filter(matches, around), None)
        if found is not None:
            self.current = found
        return found is not None

    # Selecting

    def pick(self, number: int, *, shift: bool, ctrl: bool) -> None:
        """Make the item current, the only one that commands apply to.

        shift: also select the range from the last picked item. ctrl: toggle its selection, beside the one before.
        """
        anchor = self._anchor if self._anchor in self else self.current
        if shift and anchor is not None and anchor in self:
            first, last = sorted((self._places[anchor], self._places[number]))
            self.selected = self.selected | set(self.shown[first : last + 1])
        else:
            if ctrl and not self.selected and self._picked == self.current != number:
                self.selected = {picked for picked in [self._picked] if picked is not None and picked in self}
            self.selected = self.selected ^ {number} if ctrl else set()
            self._anchor = number
            self._picked = None if ctrl else number
        self.current = number

    def toggle(self) -> None:
        if self.current is not None:
            self._anchor = self.current
            self.selected = self.selected ^ {self.current}

    def extend(self, offset: int) -> None:
        """Step, and select the items before and after the step."""
        before = self.current
        self.step(offset)
        self.selected = self.selected | {number for number in (before, self.current) if number is not None}

    # Items that a command applies to

    def many(self) -> list[int]:
        """The selection, or all shown items if nothing is selected."""
        return self.selected_in_order or list(self.shown)

    def selected_or_current(self) -> list[int]:
        """The selection, or the current item if nothing is selected."""
        if self.selected:
            return self.selected_in_order
        return [] if self.current is None else [self.current]
