"""Takes moves into a wave in the making and out of it, and publishes it."""

from __future__ import annotations

from foreshard.placement.cluster import FULL, NONE, Ints
from foreshard.placement.search.kernel import kernel
from foreshard.placement.wave_checks import at_key
from foreshard.placement.wave_tables import Tables, Tally


@kernel
def count_move(t: Tables, y: Tally, move: int, sign: int) -> None:
    """Takes a move into the tally of the wave, or out of it."""
    shard, source, target = t.shard[move], t.source[move], t.target[move]
    if target >= 0:
        place = t.target_place[move]
        y.taken[place] = sign > 0
        y.in_flight[target] += sign
        y.bytes[target] += sign * t.bytes[move]
        for r in range(t.transient.size):
            y.copied[target, r] += sign * (t.need[shard, t.holds[move], r] - t.need[shard, y.held[place], r])
        y.full_now[shard] += sign * (t.holds[move] == FULL)
        if y.held[place] == NONE:
            y.all_now[shard] += sign
            y.live_now[shard] += sign
            _place(t, y, t.group[move], target, sign)
    if source >= 0:
        place = t.source_place[move]
        y.taken[place] = sign > 0
        for r in range(t.transient.size):
            y.freed[source, r] += sign * t.need[shard, y.held[place], r]
        y.all_now[shard] -= sign
        if t.live[source]:
            y.in_flight[source] += sign * (target >= 0)
            y.bytes[source] += sign * t.bytes[move] * (target >= 0)
            y.live_now[shard] -= sign
            y.full_now[shard] -= sign * (y.held[place] == FULL)
            _place(t, y, t.group[move], source, -sign)


@kernel
def _place(t: Tables, y: Tally, group: int, node: int, change: int) -> None:
    """Counts a replica of the group more or fewer on a live node."""
    if group < 0:
        return
    y.spot_now[at_key(t.spots, group * t.live.size + node)] += change
    zone = at_key(t.zones, group * t.live.size + t.zone[node])
    before = y.zone_now[zone]
    y.zone_now[zone] = before + change
    y.zones_now[group] += int(before + change > 0) - int(before > 0)
    y.area_now[at_key(t.areas, group * t.live.size + t.neighbourhood[node])] += change


@kernel
def publish(t: Tables, y: Tally, chosen: Ints, size: int) -> None:
    """Makes the state after the wave the published one. Only what its moves touched is written."""
    for i in range(size):
        move = chosen[i]
        shard, group = t.shard[move], t.group[move]
        if t.source[move] >= 0:
            y.held[t.source_place[move]] = NONE
            y.taken[t.source_place[move]] = 0
        if t.target[move] >= 0:
            y.held[t.target_place[move]] = t.holds[move]
            y.taken[t.target_place[move]] = 0
        y.full_was[shard], y.live_was[shard], y.all_was[shard] = y.full_now[shard], y.live_now[shard], y.all_now[shard]
        if group >= 0:
            y.zones_was[group] = y.zones_now[group]
        for end in range(2):
            node = t.target[move] if end else t.source[move]
            if node < 0:
                continue
            y.in_flight[node] = 0
            y.bytes[node] = 0
            for r in range(t.transient.size):
                y.used[node, r] += y.copied[node, r] - y.freed[node, r]
                y.copied[node, r] = 0.0
                y.freed[node, r] = 0.0
            if group >= 0 and t.live[node]:
                spot = at_key(t.spots, group * t.live.size + node)
                zone = at_key(t.zones, group * t.live.size + t.zone[node])
                area = at_key(t.areas, group * t.live.size + t.neighbourhood[node])
                y.spot_was[spot], y.zone_was[zone], y.area_was[area] = y.spot_now[spot], y.zone_now[zone], y.area_now[area]
