"""A budget for retries: they may add a fraction to the traffic, so that an outage is not made worse by its own retries."""

from __future__ import annotations


class RetryBudget:
    """Each query deposits `ratio` of a retry, up to `reserve` of them; each retry takes one. For one event loop."""

    def __init__(self, ratio: float = 0.2, reserve: float = 20.0) -> None:
        self._ratio, self._reserve = ratio, reserve
        self._balance = reserve

    def deposit(self) -> None:
        self._balance = min(self._reserve, self._balance + self._ratio)

    def take(self) -> bool:
        """True if a retry may be made."""
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
