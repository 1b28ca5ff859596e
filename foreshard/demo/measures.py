"""The figures of the demo's report and pictures, from arrays of loads: forecast errors, and who carries what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import numpy.typing as npt

from foreshard.demo.report import ForecastQuality
from foreshard.errors import ForeshardError
from foreshard.model import Layout

Floats = npt.NDArray[np.float64]


def forecast_quality(
    origin: datetime, models: Mapping[str, int], mean: Floats, q95: Floats, naive: Floats, actual: Floats
) -> ForecastQuality:
    """Errors over all shards and hours; arrays of shape (shards, hours), `actual` NaN where the hour has not come yet.

    The naive forecast has no quantiles: its pinball loss is that of its one value. Raises ForeshardError if no hour has come.
    """
    come = np.isfinite(actual)
    if not come.any():
        raise ForeshardError(f"no hour of the forecast from {origin.isoformat()} has come yet; aggregate a later hour first")
    hours = int(come.any(axis=0).sum())
    return ForecastQuality(
        origin=origin,
        horizon_hours=hours,
        shards=len(actual),
        models=dict(models),
        mae=float(np.abs(mean - actual)[come].mean()),
        naive_mae=float(np.abs(naive - actual)[come].mean()),
        pinball95=_pinball95(q95[come], actual[come]),
        naive_pinball95=_pinball95(naive[come], actual[come]),
        coverage95=float((actual <= q95)[come].mean()),
    )


def _pinball95(quantile: Floats, actual: Floats) -> float:
    """Mean of 0.95 × what the actual is above the quantile and 0.05 × what it is below."""
    above = actual - quantile
    return float(np.maximum(0.95 * above, -0.05 * above).mean())


def load_by_node(layout: Layout, loads: Floats, recent_share: float = 1.0) -> dict[str, Floats]:
    """What each node carries under a layout: `loads` of shape (hours, shards) in, one value per hour and node out.

    A shard's load is split over its replicas by weight. Only full replicas answer the part that is not recent.
    Raises ForeshardError if a shard that has load has no full replica with a weight.
    """
    carried: dict[str, Floats] = {r.node_id: np.zeros(len(loads)) for r in layout.replicas}
    for shard_id in range(loads.shape[1]):
        replicas = layout.of_shard(shard_id)
        everyone, full = sum(r.weight for r in replicas), sum(r.weight for r in replicas if r.is_full)
        if full <= 0:
            if loads[:, shard_id].any():
                raise ForeshardError(
                    f"epoch {layout.epoch}: shard {shard_id} has load and no full replica; see `foreshard doctor`"
                )
            continue
        for replica in replicas:
            older = replica.weight / full * (1 - recent_share) if replica.is_full else 0.0
            carried[replica.node_id] += loads[:, shard_id] * (recent_share * replica.weight / everyone + older)
    return carried
