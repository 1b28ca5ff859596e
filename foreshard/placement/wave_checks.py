"""What keeps a move out of a wave: room for its copy at once, and the state published after the wave."""

from __future__ import annotations

from foreshard.placement.cluster import FULL, HOT, NONE, Ints
from foreshard.placement.search.kernel import kernel
from foreshard.placement.wave_tables import Tables, Tally

# Why a move is not in the wave.
FITS, SOURCE, TARGET, FLIGHT, ROOM, SHARED_ROOM, DISTINCT, MOST, LEAST, ZONES, NEAR = range(11)
# Within one wave these cannot be set right by further moves.
LAST_FINAL = ROOM
# Rounding of sums of needs, as a share of the limit.
ROUNDING = 5e-10


@kernel
def refusal(t: Tables, y: Tally, move: int) -> tuple[int, int]:
    """What keeps the move out of this wave whatever else is in it, and the resource, or FITS."""
    source, target = t.source[move], t.target[move]
    if source >= 0:
        place = t.source_place[move]
        if y.held[place] == NONE or y.taken[place]:
            return SOURCE, -1
    if target < 0:
        return FITS, -1
    place = t.target_place[move]
    widens = source < 0 and t.holds[move] == FULL and y.held[place] == HOT
    if y.taken[place] or (y.held[place] != NONE and not widens):
        return TARGET, -1
    if not _flies(t, y, target, t.bytes[move]):
        return FLIGHT, -1
    if source >= 0 and t.live[source] and not _flies(t, y, source, t.bytes[move]):
        return FLIGHT, -1
    shard = t.shard[move]
    for r in range(t.transient.size):
        grows = t.need[shard, t.holds[move], r] - t.need[shard, y.held[place], r]
        limit = t.limit[target, r]
        if t.transient[r] and grows > 0 and y.used[target, r] + y.copied[target, r] + grows > limit + ROUNDING * abs(limit):
            return ROOM, r
    return FITS, -1


@kernel
def _flies(t: Tables, y: Tally, node: int, size: int) -> bool:
    """Whether the node can take part in one more copy; one that is larger than the limit goes alone."""
    if y.in_flight[node] == 0:
        return True
    return bool(y.in_flight[node] < t.most_in_flight and y.bytes[node] + size <= t.most_bytes)


@kernel
def broken(t: Tables, y: Tally, move: int) -> tuple[int, int, int]:
    """What would be worse in the state published after the wave where this move touches it, or FITS.

    With it the resource (SHARED_ROOM) or the group that lacks (NEAR), and the node or neighbourhood.
    """
    shard, group, source, target = t.shard[move], t.group[move], t.source[move], t.target[move]
    if target >= 0:
        for r in range(t.transient.size):
            after = y.used[target, r] + y.copied[target, r] - y.freed[target, r]
            limit = max(t.limit[target, r], y.used[target, r])
            if not t.transient[r] and after > limit + ROUNDING * abs(limit):
                return SHARED_ROOM, r, target
        if y.all_now[shard] > max(t.most[shard], y.all_was[shard]):
            return MOST, -1, target
    if source >= 0 and y.full_now[shard] < min(t.least[shard], y.full_was[shard]):
        return LEAST, FULL, source
    if source >= 0 and y.live_now[shard] < min(t.least_any[shard], y.live_was[shard]):
        return LEAST, HOT, source
    return (FITS, -1, -1) if group < 0 else _apart(t, y, group, source, target)


@kernel
def _apart(t: Tables, y: Tally, group: int, source: int, target: int) -> tuple[int, int, int]:
    """As `broken`, for what the group demands."""
    if target >= 0 and t.distinct[group]:
        spot = at_key(t.spots, group * t.live.size + target)
        if y.spot_now[spot] > max(1, y.spot_was[spot]):
            return DISTINCT, -1, target
    if y.zones_now[group] < min(t.min_zones[group], y.zones_was[group]):
        return ZONES, -1, source
    return _far(t, y, group, source, target)


@kernel
def _far(t: Tables, y: Tally, group: int, source: int, target: int) -> tuple[int, int, int]:
    """Whether a group newly lacks another near it where this move comes to or leaves from: NEAR, the lacking group, where."""
    if target >= 0:
        where = t.neighbourhood[target]
        for i in range(t.near.start[group], t.near.start[group + 1]):
            if _lacks(t, y, group, t.near.item[i], where):
                return NEAR, t.near.item[i], where
    if source >= 0 and t.live[source]:
        where = t.neighbourhood[source]
        for i in range(t.beside.start[group], t.beside.start[group + 1]):
            if _lacks(t, y, t.beside.item[i], group, where):
                return NEAR, group, where
    return FITS, -1, -1


@kernel
def _lacks(t: Tables, y: Tally, group: int, other: int, where: int) -> bool:
    here, there = at_key(t.areas, group * t.live.size + where), at_key(t.areas, other * t.live.size + where)
    if here < 0 or y.area_now[here] <= 0 or (there >= 0 and y.area_now[there] > 0):
        return False
    lacked = y.area_was[here] > 0 and (there < 0 or y.area_was[there] <= 0)
    return not lacked


@kernel
def at_key(keys: Ints, key: int) -> int:
    """Position of the key among sorted ones, -1 if it is not there."""
    low, high = 0, keys.size
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < keys.size and keys[low] == key else -1
