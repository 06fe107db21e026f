"""How many requests to have under way with a server: found out by trying. Pure: told the time, knows no clock."""

INITIAL_LIMIT, MAX_LIMIT = 4, 128
_ANSWERS_PER_SLOT, _MIN_ANSWERS = 2, 24  # answers that are measured: so many for each slot, and so many in all
_MIN_GAIN = 1.1  # of throughput, that makes more slots worth having
_WINDOWS_BEFORE_RETRY = 8  # windows until what did not help is tried again
_CAUTIOUS_FACTOR = 1.25


class AdaptiveConcurrency:
    """`limit` rises while throughput rises with it, and halves when the server has too much.

    It doubles until that does not help or is too much, and is tried in smaller steps from then on. A number that was
    given stays.
    """

    def __init__(self, fixed_limit: int | None = None) -> None:
        self.limit = fixed_limit or INITIAL_LIMIT
        self._is_fixed = fixed_limit is not None
        self._previous: tuple[int, float] | None = None  # the limit that was raised last, and its throughput
        self._growth_factor = 2.0
        self._windows_to_wait = 0
        self._changed_s = float("-inf")
        self._start_window()

    def _start_window(self) -> None:
        self._answers = 0
        self._work = 0.0
        self._since_s: float | None = None

    def record_success(self, now_s: float, work: float = 1.0) -> None:
        """An answer has come. work: what it was worth, a clip more than an image."""
        if self._is_fixed:
            return
        self._answers += 1
        if self._answers == self.limit:  # those until now were asked before the last change
            self._since_s = now_s
        elif self._answers > self.limit:
            self._work += work
        measured = self._answers - self.limit
        if (
            self._since_s is not None
            and measured >= max(_MIN_ANSWERS, _ANSWERS_PER_SLOT * self.limit)
            and now_s > self._since_s
        ):
            throughput = self._work / (now_s - self._since_s)
            self._start_window()
            self._decide(throughput, now_s)

    def _decide(self, throughput: float, now_s: float) -> None:
        if self._previous is not None and throughput < _MIN_GAIN * self._previous[1]:
            self._set_limit(self._previous[0], now_s)  # more of them did not help
            self._back_off()
        elif self._windows_to_wait > 0:
            self._windows_to_wait -= 1
        elif self.limit < MAX_LIMIT:
            self._previous = (self.limit, throughput)
            self._set_limit(min(MAX_LIMIT, max(self.limit + 1, int(self.limit * self._growth_factor))), now_s)
        else:
            self._previous = None

    def record_overload(self, sent_s: float, now_s: float) -> None:
        """Too much, said the server, or it took too long. What was asked before the last change says nothing new."""
        if not self._is_fixed and sent_s >= self._changed_s:
            self._set_limit(max(1, self.limit // 2), now_s)
            self._back_off()

    def _back_off(self) -> None:
        self._previous, self._growth_factor, self._windows_to_wait = None, _CAUTIOUS_FACTOR, _WINDOWS_BEFORE_RETRY

    def _set_limit(self, limit: int, now_s: float) -> None:
        self.limit, self._changed_s = limit, now_s
        self._start_window()
