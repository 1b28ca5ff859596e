"""Whether a step has anything new to work in: what its output's commits say against its input's newest version.

Read with `deltalake`, so that a run which has nothing to do starts no Spark session.
"""

from __future__ import annotations

from foreshard.settings import Settings


def forecast_is_due(settings: Settings) -> bool:
    """Whether `query_load` has hours, late rows or isolated entities that `load_forecast` was not made from."""
    from foreshard.lake import log
    from foreshard.local.postgres import resolve_url
    from foreshard.routing import store
    from foreshard.usage.watermark import watermark

    newest = watermark(settings, "query_load")
    if newest.hour is None:
        return False
    current = store.current(resolve_url(settings), settings.pool_id)
    isolated = sorted(list(pair) for pair in current.isolated) if current else []
    wanted = {"origin": newest.hour.isoformat(), "input_version": newest.version, "isolated": isolated}
    said = log.newest_commit(settings.table("load_forecast"), "input_version")
    patterns = log.newest_commit(settings.table("query_pattern"), "origin")
    return {key: said.get(key) for key in wanted} != wanted or patterns.get("origin") != wanted["origin"]


def replicas_are_due(settings: Settings) -> bool:
    """Whether any node's copies are not at the version of `usage_hourly`, or a node lost copies that it should hold."""
    from foreshard.local.postgres import resolve_url
    from foreshard.routing.pool import read_nodes
    from foreshard.transition.retire import holdings_of
    from foreshard.transition.store import read_replicas
    from foreshard.usage.watermark import watermark

    newest = watermark(settings, "usage_hourly").version
    url = resolve_url(settings)
    held = {
        (shard, node.node_id): holding.applied_version
        for node in read_nodes(url, settings.pool_id)
        for shard, holding in holdings_of(settings, node.node_id).items()
    }
    wanted = {(r.shard_id, r.node_id) for r in read_replicas(url, settings.pool_id) if r.state in ("verified", "serving")}
    return any(version != newest for version in held.values()) or not wanted <= set(held)


def learning_is_due(settings: Settings) -> bool:
    """Whether hours are complete that nothing was learnt from yet."""
    from foreshard.lake import log
    from foreshard.usage.watermark import watermark

    newest = watermark(settings, "query_load").hour
    learnt = log.newest_commit(settings.table("node_correction"), "corrected_to").get("corrected_to")
    scored = log.newest_commit(settings.table("forecast_score"), "scored_to").get("scored_to")
    return newest is not None and {learnt, scored} != {newest.isoformat()}
