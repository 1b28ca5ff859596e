"""The families of models that there are, by name."""

from __future__ import annotations

from collections.abc import Mapping

from foreshard.forecast.batch import Family
from foreshard.forecast.batched_prophet import BatchedProphet
from foreshard.forecast.lightgbm_family import LightGBM
from foreshard.forecast.naive import LAST_VALUE, PROFILE, SEASONAL_NAIVE
from foreshard.forecast.prophet_family import ProphetFamily
from foreshard.forecast.spar import Spar
from foreshard.forecast.stats_family import MODELS, StatsModel

_ALL: tuple[Family, ...] = (
    *(SEASONAL_NAIVE, PROFILE, LAST_VALUE, Spar(), BatchedProphet(), ProphetFamily(), LightGBM()),
    *(StatsModel(name) for name in MODELS),
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
DEFAULT = ("seasonal_naive", "profile", "last_value", "spar")
