"""The short horizon: a deviation that lasts is carried on, one that does not is forgotten, and the band holds what it says."""

from __future__ import annotations

import numpy as np
import pytest

from foreshard.errors import ForeshardError
from foreshard.forecast.batch import LEVELS
from foreshard.forecast.short_horizon import ShortHorizon


def played(shards: int, lasting: float, intervals: int, seed: int) -> tuple[ShortHorizon, dict[str, np.ndarray], np.ndarray]:  # type: ignore[type-arg]
    """Loads around a slow forecast of 100 with deviations that keep `lasting` of themselves from one interval to the next.

    Returns the model, the last half's absolute errors by forecast, (horizons,) each, and covered shares, (levels, horizons).
    """
    draw = np.random.default_rng(seed)
    slow = np.full(shards, 100.0)
    deviation = np.zeros(shards)
    model = ShortHorizon(shards, (1, 5))
    waiting: list[tuple[int, int, np.ndarray, np.ndarray]] = []  # type: ignore[type-arg]
    errors: dict[str, list[list[float]]] = {"model": [[], []], "slow": [[], []], "last": [[], []]}
    covered: list[list[np.ndarray]] = [[], []]  # type: ignore[type-arg]
    loads = []
    for now in range(intervals):
        deviation = lasting * deviation + 8 * np.sqrt(1 - lasting**2) * draw.standard_normal(shards)
        load = slow + deviation + draw.standard_normal(shards)
        loads.append(load)
        for due, number, mean, quantiles in [w for w in waiting if w[0] == now]:
            if now > intervals / 2:
                errors["model"][number].append(np.abs(load - mean).mean())
                errors["slow"][number].append(np.abs(load - slow).mean())
                errors["last"][number].append(np.abs(load - loads[due - model.horizons[number]]).mean())
                covered[number].append((load <= quantiles).mean(axis=1))
        waiting = [w for w in waiting if w[0] > now]
        model.update(load, slow)
        means, bands = model.predict(np.stack([slow, slow]))
        waiting += [(now + h, n, means[n], bands[:, n]) for n, h in enumerate(model.horizons)]
    return (
        model,
        {name: np.array([np.mean(one) for one in both]) for name, both in errors.items()},
        np.stack([np.mean(one, axis=0) for one in covered], axis=1),
    )


def test_a_deviation_that_lasts_is_carried_on() -> None:
    _, errors, covered = played(300, 0.95, 400, 1)
    assert errors["model"][0] < 0.6 * errors["slow"][0]
    assert errors["model"][1] < 0.85 * errors["slow"][1]
    assert (errors["model"] < errors["last"]).all()
    for place, level in enumerate(LEVELS):
        assert covered[place] == pytest.approx(level, abs=0.025)


def test_noise_is_not_followed() -> None:
    _, errors, covered = played(300, 0.0, 400, 2)
    assert (errors["model"] < 1.03 * errors["slow"]).all()
    assert (errors["model"] < 0.8 * errors["last"]).all()
    assert covered[LEVELS.index(0.95)] == pytest.approx(0.95, abs=0.02)


def test_a_shard_that_did_not_report_keeps_its_state_and_harms_no_other() -> None:
    draw = np.random.default_rng(3)
    model, other = ShortHorizon(3, (1,)), ShortHorizon(3, (1,))
    for now in range(50):
        load = 10 + draw.standard_normal(3)
        silent = load.copy()
        if now > 30:
            silent[1] = np.nan
        model.update(silent, np.full(3, 10.0))
        other.update(load, np.full(3, 10.0))
    means, quantiles = model.predict(np.full((1, 3), 10.0))
    assert np.isfinite(means).all()
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=0) >= 0).all()
    expected, _ = other.predict(np.full((1, 3), 10.0))
    # The others share the fleet's coefficient with it, and nothing else.
    assert means[0, [0, 2]] == pytest.approx(expected[0, [0, 2]], abs=0.3)


def test_before_anything_came_the_slow_forecast_stands_and_loads_are_not_negative() -> None:
    model = ShortHorizon(2, (1, 60))
    means, quantiles = model.predict([[5.0, 0.0], [7.0, 0.0]])
    assert means.tolist() == [[5.0, 0.0], [7.0, 0.0]]
    assert (quantiles == means).all()
    model.update([0.0, 0.0], [50.0, 50.0])
    model.update([0.0, 0.0], [50.0, 50.0])
    assert (model.predict([[1.0, 1.0], [1.0, 1.0]])[0] >= 0).all()


def test_horizons_that_are_none_are_refused() -> None:
    with pytest.raises(ForeshardError, match="at least one interval"):
        ShortHorizon(3, (0,))
