"""What `foreshard doctor` found: something wrong, where, what to do, and how it is repaired if it can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`repair` looks again, does what `do` says, and returns a sentence; it raises ForeshardError if it must not, or cannot.

    It may be repeated, and does nothing to what is in order by then.
    """

    what: str
    where: str
    do: str
    repair: Callable[[], str] | None = None

    def as_document(self) -> dict[str, object]:
        return {"what": self.what, "where": self.where, "do": self.do, "repairable": self.repair is not None}
