"""Which moves can share a wave: compiled list scheduling, with moves that depend on each other taken together.

A move is added to the wave in the making if its copy has room at once, and if the state published after the wave keeps every
constraint on what it touches, or is no worse than before. Where only the latter fails, moves that would set it right are
added with it, and with these what they need in turn, or none of them.
"""

from __future__ import annotations

from typing import cast

import numba
import numpy as np

from foreshard.placement.cluster import Ints
from foreshard.placement.search.kernel import kernel
from foreshard.placement.wave_checks import (
    DISTINCT,
    FITS,
    LAST_FINAL,
    LEAST,
    MOST,
    NEAR,
    SHARED_ROOM,
    ZONES,
    at_key,
    broken,
    refusal,
)
from foreshard.placement.wave_tables import Lists, Tables, Tally
from foreshard.placement.wave_tally import count_move, publish

# So many moves are tried as the first that a move needs with it.
ATTEMPTS = 8
# Plain numbers would have functions compiled once more for each of them.
MINUS_ONE, ZERO, ONE = (cast(int, np.int64(number)) for number in (-1, 0, 1))


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]  # called from Python
def place_in_waves(t: Tables, y: Tally, pending: Ints, drops: Ints, wave: Ints, why: Ints, resource: Ints, chosen: Ints) -> int:
    """The number of waves; fills in the wave of each move, or -1, then with the reason and its resource, all of shape (M,).

    `pending`: positions by urgency; `drops`: those of them that only drop; `chosen`: room for M positions. All are changed, as
    is the tally. `wave` is -1 to begin with. Time O(waves × pending moves) and the moves tried together.
    """
    number, left, left_drops = ZERO, pending.size, drops.size
    while left:
        size, before, sweep = ZERO, -1, 0
        # First drops by themselves, then all with what they need, then again what further moves may have made possible.
        while sweep < 2 or size > before:
            before = size
            moves, count = (drops, left_drops) if sweep == 0 else (pending, left)
            for i in range(count):
                move = moves[i]
                if wave[move] < 0 and (sweep < 2 or why[move] > LAST_FINAL):
                    size = _add(t, y, move, wave, number, chosen, size, sweep > 0, why, resource)
            sweep += 1
        if size == 0:
            break
        publish(t, y, chosen, size)
        left, left_drops = _still_pending(pending, left, wave), _still_pending(drops, left_drops, wave)
        number += 1
    return number


@kernel
def _still_pending(moves: Ints, count: int, wave: Ints) -> int:
    """Brings those without a wave to the front, in their order, and says how many there are."""
    kept = 0
    for i in range(count):
        if wave[moves[i]] < 0:
            moves[kept] = moves[i]
            kept += 1
    return kept


@kernel
def _add(
    t: Tables,
    y: Tally,
    move: int,
    wave: Ints,
    number: int,
    chosen: Ints,
    size: int,
    together: bool,
    why: Ints,
    resource: Ints,
) -> int:
    """The number of moves in the wave after trying this one, with what it needs in the same wave if `together`."""
    code, which = refusal(t, y, move)
    why[move], resource[move] = code, which
    if code != FITS:
        return size
    first = size
    for attempt in range(ATTEMPTS if together else 1):
        size = _take(t, y, move, wave, number, chosen, size)
        at, skip = first, attempt
        while at < size:
            code, which, spot = broken(t, y, chosen[at])
            if code == FITS:
                at += 1
                continue
            if size == first + 1:
                why[move], resource[move] = code, which
            remedy = _remedy(t, y, chosen[at], code, which, spot, wave, skip) if together else -1
            if remedy < 0:
                break
            skip = 0
            size = _take(t, y, remedy, wave, number, chosen, size)
        if code == FITS:
            return size
        alone = size == first + 1
        while size > first:
            size -= 1
            wave[chosen[size]] = -1
            count_move(t, y, chosen[size], MINUS_ONE)
        if alone:  # no further move to begin with
            break
    return size


@kernel
def _take(t: Tables, y: Tally, move: int, wave: Ints, number: int, chosen: Ints, size: int) -> int:
    wave[move] = number
    chosen[size] = move
    count_move(t, y, move, ONE)
    return size + 1


@kernel
def _remedy(t: Tables, y: Tally, move: int, code: int, which: int, spot: int, wave: Ints, skip: int) -> int:
    """A pending move that would help against what is broken and can be in this wave, after `skip` others, -1 for none."""
    shard, group = t.shard[move], t.group[move]
    if code == SHARED_ROOM:
        return _first(t, y, t.leaving, spot, code, which, spot, wave, skip)
    if code in (MOST, LEAST):
        return _first(t, y, t.of_shard, shard, code, which, spot, wave, skip)
    if code != NEAR:
        return _first(t, y, t.of_group, group, code, which, spot, wave, skip)
    found = _first(t, y, t.of_group, which, code, which, spot, wave, skip)
    for i in range(t.beside.start[which], t.beside.start[which + 1]):
        if found < 0:
            found = _first(t, y, t.of_group, t.beside.item[i], code, MINUS_ONE, spot, wave, ZERO)
    return found


@kernel
def _first(t: Tables, y: Tally, lists: Lists, key: int, code: int, which: int, spot: int, wave: Ints, skip: int) -> int:
    for i in range(lists.start[key], lists.start[key + 1]):
        move = lists.item[i]
        if wave[move] < 0 and _helps(t, y, move, code, which, spot) and refusal(t, y, move)[0] == FITS:
            if skip == 0:
                return int(move)
            skip -= 1
    return -1


@kernel
def _helps(t: Tables, y: Tally, move: int, code: int, which: int, spot: int) -> bool:
    source, target = t.source[move], t.target[move]
    if code == SHARED_ROOM:
        return bool(t.need[t.shard[move], y.held[t.source_place[move]], which] > 0)
    if code == MOST:
        return bool(source >= 0 and target < 0)
    if code == LEAST:
        return bool(target >= 0 and t.holds[move] >= which and (source < 0 or not t.live[source]))
    if code == DISTINCT:
        return bool(source == spot)
    if code == ZONES:
        return bool(target >= 0 and y.zone_now[at_key(t.zones, t.group[move] * t.live.size + t.zone[target])] == 0)
    if which >= 0:
        return bool(target >= 0 and t.neighbourhood[target] == spot)
    return bool(source >= 0 and t.neighbourhood[source] == spot)
