"""What nodes and gateways said of plans that ended long ago, which nobody reads any more."""

from __future__ import annotations

from foreshard.routing import database

KEPT_DAYS = 30


def remove_old_answers(url: str, pool_id: str) -> str:
    """Removes nodes' answers to moves, and gateways' reports of shadows, of plans that ended KEPT_DAYS ago; says how many.

    By the database's clock, from the plan's last event. A failed plan that is taken up again after that asks its nodes anew.
    """
    key = {"pool_id": pool_id, "days": KEPT_DAYS}
    with database.transaction(url) as cursor:
        answers = database.run(cursor, "delete_old_answers", key)[0]["removed"]
        reports = database.run(cursor, "delete_old_shadow_reports", key)[0]["removed"]
    if not answers and not reports:
        return "no plan ended long enough ago."
    return f"{answers} answers of nodes and {reports} reports of shadows removed, of plans that ended {KEPT_DAYS} days ago."
