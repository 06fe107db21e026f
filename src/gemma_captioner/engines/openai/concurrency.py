"""How many requests to have under way with a server: found out by trying. Pure: told the time, knows no clock."""

START, MOST = 4, 128
_WINDOW, _LEAST = 2, 24  # answers that are measured: so many for each slot, and so many in all
_GAIN = 1.1  # of throughput, that makes more slots worth having
_PATIENCE = 8  # windows until what did not help is tried again
_CAUTIOUS = 1.25


class Concurrency:
    """`limit` rises while throughput rises with it, and halves when the server has too much.

    It doubles until that does not help or is too much, and is tried in smaller steps from then on. A number that was
    given stays.
    """

    def __init__(self, given: int | None = None) -> None:
        self.limit = given or START
        self._is_given = given is not None
        self._before: tuple[int, float] | None = None  # the limit that was raised last, and its throughput
        self._step = 2.0
        self._windows_to_wait = 0
        self._changed_s = float("-inf")
        self._begin()

    def _begin(self) -> None:
        self._answers = 0
        self._work = 0.0
        self._since_s: float | None = None

    def answered(self, now_s: float, work: float = 1.0) -> None:
        """An answer has come. work: what it was worth, a clip more than an image."""
        if self._is_given:
            return
        self._answers += 1
        if self._answers == self.limit:  # those until now were asked before the last change
            self._since_s = now_s
        elif self._answers > self.limit:
            self._work += work
        measured = self._answers - self.limit
        if self._since_s is not None and measured >= max(_LEAST, _WINDOW * self.limit) and now_s > self._since_s:
            throughput = self._work / (now_s - self._since_s)
            self._begin()
            self._decide(throughput, now_s)

    def _decide(self, throughput: float, now_s: float) -> None:
        if self._before is not None and throughput < _GAIN * self._before[1]:
            self._set(self._before[0], now_s)  # more of them did not help
            self._settle()
        elif self._windows_to_wait > 0:
            self._windows_to_wait -= 1
        elif self.limit < MOST:
            self._before = (self.limit, throughput)
            self._set(min(MOST, max(self.limit + 1, int(self.limit * self._step))), now_s)
        else:
            self._before = None

    def refused(self, asked_s: float, now_s: float) -> None:
        """Too much, said the server, or it took too long. What was asked before the last change says nothing new."""
        if not self._is_given and asked_s >= self._changed_s:
            self._set(max(1, self.limit // 2), now_s)
            self._settle()

    def _settle(self) -> None:
        self._before, self._step, self._windows_to_wait = None, _CAUTIOUS, _PATIENCE

    def _set(self, limit: int, now_s: float) -> None:
        self.limit, self._changed_s = limit, now_s
        self._begin()
