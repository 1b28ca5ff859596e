"""How long answers took, by class and status, as a Prometheus histogram."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
# A caller who is believed can name any class: only so many become series of their own.
_MOST_CLASSES = 32
_OTHER = "other"


class LatencyHistogram:
    """For one event loop; `observe` takes O(log bounds)."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._seconds: dict[tuple[str, int], float] = {}
        self._classes: set[str] = set()

    def observe(self, query_class: str, status: int, seconds: float) -> None:
        """One answer. The class must be of characters that need no escaping."""
        if query_class not in self._classes:
            if len(self._classes) >= _MOST_CLASSES:
                query_class = _OTHER
            self._classes.add(query_class)
        key = (query_class, status)
        counts = self._counts.get(key)
        if counts is None:
            counts, self._seconds[key] = self._counts.setdefault(key, [0] * (len(BOUNDS) + 1)), 0.0
        counts[bisect_left(BOUNDS, seconds)] += 1
        self._seconds[key] += seconds

    def lines(self) -> list[str]:
        """The text that Prometheus reads, sorted by class and status; nothing before the first answer."""
        found = [f"# TYPE {self._family} histogram"] if self._counts else []
        for (query_class, status), counts in sorted(self._counts.items()):
            labels, total = f'class="{query_class}",status="{status}"', 0
            for bound, count in zip((*(f"{b:g}" for b in BOUNDS), "+Inf"), counts, strict=True):
                total += count
                found.append(f'{self._family}_bucket{{{labels},le="{bound}"}} {total}')
            found.append(f"{self._family}_sum{{{labels}}} {self._seconds[query_class, status]:.6f}")
            found.append(f"{self._family}_count{{{labels}}} {total}")
        return found
