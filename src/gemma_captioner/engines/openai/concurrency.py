"""Adapts the number of concurrent requests to a server's throughput. Pure: the caller passes the time."""

INITIAL_LIMIT, MAX_LIMIT = 4, 128
_ANSWERS_PER_SLOT, _MIN_ANSWERS = 2, 24  # answers per window: at least this many per slot, and in total
_MIN_GAIN = 1.1  # a higher limit must raise throughput by this factor
_WINDOWS_BEFORE_RETRY = 8  # windows until the next attempt to raise the limit
_CAUTIOUS_FACTOR = 1.25


class AdaptiveConcurrency:
    """Raises `limit` while throughput rises with it, and halves it when the server is overloaded.

    The limit doubles until that does not help or overloads the server. Then it rises in smaller steps. A fixed limit
    never changes.
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
        """Count one answer. work: its weight, such as the number of frames."""
        if self._is_fixed:
            return
        self._answers += 1
        if self._answers == self.limit:  # requests of earlier answers were sent before the last change
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
            self._set_limit(self._previous[0], now_s)  # the higher limit did not help
            self._back_off()
        elif self._windows_to_wait > 0:
            self._windows_to_wait -= 1
        elif self.limit < MAX_LIMIT:
            self._previous = (self.limit, throughput)
            self._set_limit(min(MAX_LIMIT, max(self.limit + 1, int(self.limit * self._growth_factor))), now_s)
        else:
            self._previous = None

    def record_overload(self, sent_s: float, now_s: float) -> None:
        """Halve the limit after an overload or a timeout. Ignore requests that were sent before the last change."""
        if not self._is_fixed and sent_s >= self._changed_s:
            self._set_limit(max(1, self.limit // 2), now_s)
            self._back_off()

    def _back_off(self) -> None:
        self._previous, self._growth_factor, self._windows_to_wait = None, _CAUTIOUS_FACTOR, _WINDOWS_BEFORE_RETRY

    def _set_limit(self, limit: int, now_s: float) -> None:
        self.limit, self._changed_s = limit, now_s
        self._start_window()
