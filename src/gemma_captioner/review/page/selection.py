"""Which items are shown, which of them is in front, and which are selected. Knows nothing of the browser."""

from collections.abc import Callable


class Selection:
    """Items by their numbers. The item in front may be one that is shown no more: it is being edited, say."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        self.current: int | None = None  # the item in front
        self.selected: set[int] = set()
        self._places: dict[int, int] = {}  # number -> index in `shown`
        self._last_place = 0  # of the item in front, when it was shown last
        self._anchor: int | None = None  # where a selection with Shift begins

    def __contains__(self, number: int | None) -> bool:
        """Whether it is shown."""
        return number in self._places

    @property
    def place(self) -> int:
        """Of the item in front, among those shown."""
        return self._last_place if self.current is None else self._places.get(self.current, self._last_place)

    @property
    def selected_in_order(self) -> list[int]:
        return [number for number in self.shown if number in self.selected]

    def show(self, numbers: list[int]) -> None:
        """What is not among them is selected no more. The item in front stays there."""
        self._last_place = self.place
        self.shown = numbers
        self._places = {number: place for place, number in enumerate(numbers)}
        self.selected = self.selected & self._places.keys()

    def come_into_view(self) -> None:
        """Where the item in front is not shown, the one at its place comes to the front."""
        if self.current not in self:
            self.current = self.shown[min(self._last_place, len(self.shown) - 1)] if self.shown else None

    # Going about

    def step(self, by: int) -> None:
        """By so many places, to the first or the last one at the most."""
        if self.shown:
            by -= by > 0 and self.current not in self  # another one has its place by now
            self.current = self.shown[min(max(self.place + by, 0), len(self.shown) - 1)]

    def seek(self, direction: int, wanted: Callable[[int], bool]) -> bool:
        """To the next that is wanted, and from the end on from the beginning. Whether there is one."""
        around = (self.shown[(self.place + direction * n) % len(self.shown)] for n in range(1, len(self.shown) + 1))
        found = next(filter(wanted, around), None)
        if found is not None:
            self.current = found
        return found is not None

    # Selecting

    def pick(self, number: int, *, shift: bool, ctrl: bool) -> None:
        """To this one. shift: what lies between it and the last one picked is selected; ctrl: it is, or no more."""
        anchor = self._anchor if self._anchor in self else self.current
        if shift and anchor is not None and anchor in self:
            first, last = sorted((self._places[anchor], self._places[number]))
            self.selected = self.selected | set(self.shown[first : last + 1])
        else:
            self._anchor = number
            if ctrl:
                self.selected = self.selected ^ {number}
        self.current = number

    def toggle(self) -> None:
        if self.current is not None:
            self._anchor = self.current
            self.selected = self.selected ^ {self.current}

    def extend(self, by: int) -> None:
        """Step, and select both where it was and where it is then."""
        before = self.current
        self.step(by)
        self.selected = self.selected | {number for number in (before, self.current) if number is not None}

    # What commands are about

    def many(self) -> list[int]:
        """Of a command for many: the selection, or where there is none all that is shown."""
        return self.selected_in_order or list(self.shown)

    def selected_or_current(self) -> list[int]:
        """Of a decision: the selection, or where there is none the item in front."""
        if self.selected:
            return self.selected_in_order
        return [] if self.current is None else [self.current]
