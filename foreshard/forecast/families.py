"""The families of models that there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from foreshard.forecast.batch import Family
from foreshard.forecast.batched_prophet import BatchedProphet
from foreshard.forecast.naive import Naive
from foreshard.forecast.prophet_family import ProphetFamily
from foreshard.forecast.spar import Spar

FAMILIES: Mapping[str, Family] = {f.name: f for f in (Naive(), Spar(), BatchedProphet(), ProphetFamily())}
DEFAULT = ("naive", "spar")
