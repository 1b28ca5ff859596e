"""Reports of shadows against a real Postgres: what each process of a gateway wrote, added up."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from foreshard.routing import store
from foreshard.routing.snapshot import Shadow, Snapshot, decode, encode
from foreshard.transition import store as transitions
from foreshard.transition.picture import ShadowFigures
from foreshard.transition.shadowing import ShadowReport, read_shadows, write_shadow
from foreshard.transition.store import ReplicaRecord
from foreshard.usage.latency_histogram import bucket_of, merged, quantile


def histogram(*milliseconds: float) -> Counter[int]:
    return Counter(bucket_of(value) for value in milliseconds)


def test_the_reports_of_all_processes_are_added_up(published: str) -> None:
    of_b = ShadowReport(7, 3, "b", 10, 1, 2, 3, histogram(*[1.0] * 19, 50.0), histogram(*[2.0] * 10), "entity e")
    write_shadow(published, "usage", "g1/x", of_b)
    write_shadow(published, "usage", "g1/y", replace(of_b, compared=5, new_latency=histogram(*[400.0] * 10), example=""))
    write_shadow(published, "usage", "g2/z", ShadowReport(7, 3, "b", compared=1))
    write_shadow(published, "usage", "g2/z", ShadowReport(7, 0, "c", compared=4))
    write_shadow(published, "usage", "g2/z", ShadowReport(8, 3, "b", compared=100))
    found = read_shadows(published, "usage", 7)
    assert set(found) == {(3, "b"), (0, "c")}
    assert found[0, "c"] == ShadowFigures(compared=4)
    seen = found[3, "b"]
    assert (seen.compared, seen.mismatched, seen.failed, seen.skipped, seen.example) == (16, 2, 4, 6, "entity e")
    # 2 of 40 took 50 ms: the 38th shortest took 1 ms. Of the new 20, the 19th took 400 ms.
    assert math.isclose(seen.old_p95_ms, 1.0, rel_tol=0.011)
    assert math.isclose(seen.new_p95_ms, 400.0, rel_tol=0.011)


def test_totals_written_again_stay_the_same(published: str) -> None:
    report = ShadowReport(7, 3, "b", 10, 1, 2, 3, histogram(1.0), histogram(2.0), "entity e")
    write_shadow(published, "usage", "g1/x", report)
    once = read_shadows(published, "usage", 7)
    write_shadow(published, "usage", "g1/x", report)
    assert read_shadows(published, "usage", 7) == once
    write_shadow(published, "usage", "g1/x", replace(report, compared=11))
    assert read_shadows(published, "usage", 7)[3, "b"].compared == 11
    assert read_shadows(published, "usage", 6) == {}


def test_shadows_are_published_and_are_those_of_the_epoch_that_began_them(published: str, snapshot: Snapshot) -> None:
    shadows = (Shadow(0, "c", None, 0.5), Shadow(4, "a", date(2013, 11, 20), 0.25, since_epoch=1, entity_id="é"))
    shadowed = replace(snapshot, epoch=2, parent=1, shadows=shadows)
    store.publish(published, shadowed, expected_epoch=1, published_by="test", reason="shadows")
    read = store.current(published, "usage")
    assert read is not None
    assert read.shadows == (Shadow(0, "c", None, 0.5, since_epoch=2), shadows[1])
    assert replace(read, shadows=()) == replace(shadowed, shadows=())
    without = replace(snapshot, epoch=3, parent=2)
    store.publish(published, without, expected_epoch=2, published_by="test", reason="no shadows")
    assert decode(*encode(without)).shadows == ()
    copies = [ReplicaRecord(r.shard_id, r.node_id, "serving", None, 1, 1) for r in snapshot.replicas]
    transitions.upsert_replicas(published, "usage", copies)
    back = store.rollback(published, "usage", 2, "test")
    assert store.epoch(published, "usage", back).shadows == ()


@given(st.lists(st.floats(1e-3, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_of_a_histogram_is_right_to_one_percent(latencies: list[float], probability: float) -> None:
    exact = sorted(latencies)[max(1, math.ceil(probability * len(latencies))) - 1]
    assert math.isclose(quantile(histogram(*latencies), probability), exact, rel_tol=0.0101)


@given(st.lists(st.floats(1e-3, 1e6)), st.lists(st.floats(1e-3, 1e6)))
def test_merged_histograms_are_those_of_all_latencies(one: list[float], other: list[float]) -> None:
    assert merged([histogram(*one), histogram(*other)]) == histogram(*one, *other)
