"""How figures read in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def figure(value: float) -> str:
    """Four digits, and whole thousands in full: 0.3142, 31.42, 31,416."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def size(count: float) -> str:
    """Bytes in decimal units: 999 bytes, 1.5 kB, 12.3 GB."""
    unit = 0
    while abs(count) >= 1_000 and unit < len(_UNITS) - 1:
        count, unit = count / 1_000, unit + 1
    return f"{count:,.0f} bytes" if unit == 0 else f"{count:,.1f} {_UNITS[unit]}"


def number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def percent(share: float) -> str:
    """A rise that suffices: rounded up to the next percent, or to two digits below 10 %."""
    return f"{rounded_up(100.0 * share, 3 if share >= 1.0 else 2):.6g} %"


def rounded_up(value: float, digits: int = 3) -> float:
    """The next number of so many digits that is not below: a figure named as enough must be enough."""
    if value <= 0.0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(value)))
    return math.ceil(value * scale * (1.0 - 1e-12)) / scale


def rounded_down(value: float, digits: int = 3) -> float:
    """The next number of so many digits that is not above."""
    if value <= 0.0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (digits - 1 - math.floor(math.log10(value)))
    return math.floor(value * scale * (1.0 + 1e-12)) / scale


def ordinal(position: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st …"""
    last = position % 10 if position % 100 not in (11, 12, 13) else 0
    return f"{position}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names with commas and 'and'; beyond so many, how many more."""
    shown = list(names[:most]) + ([f"{len(names) - most:,} more"] if len(names) > most else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def numbers(found: Sequence[int], most: int) -> str:
    """Numbers of things with commas; beyond so many, how many more."""
    return ", ".join(map(str, found[:most])) + (f" and {len(found) - most} more" if len(found) > most else "")


def moment(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M") if at else ""
