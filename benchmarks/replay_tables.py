"""The figures of replays, by what they are to reach, and their tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.placement_figures import Figure, shown

# Limits hold where the load can be foreseen: where the error of the total an hour ahead (on these, of last week's load at the
# recent level) is at most 0.10. On all other traces the figures are only told.
FORESEEABLE = ("taxi-hourly", "pedestrians-hourly", "mongodb-apps-1min")
_AVOIDED, _DEARER, _SAVED, _OVERLOAD, _OF_ORACLE, _MOVED = 95.0, 1.15, 35.0, 0.1, 80.0, 0.5
_HYBRID_DEARER = 1.05
_COLUMNS = (
    "requests above capacity",
    "time in overload",
    "p99",
    "node-hours",
    "of static_peak's",
    "moved",
    "copies",
    "imbalance",
    "reconfigurations",
)

Policies = Mapping[str, Mapping[str, float]]


def summary_figures(document: Mapping[str, Any]) -> list[Figure]:
    """One trace's figures; those of policies that were not played are left out."""
    policies: Policies = document["policies"]
    bound = document["trace"] in FORESEEABLE
    parts: list[tuple[tuple[str, ...], Callable[[Policies, bool], list[Figure]]]] = [
        (("foreshard", "reactive"), _against_reactive),
        (("foreshard", "static_peak", "oracle"), _against_peak),
        (("foreshard", "hash_elastic"), _against_hash),
        (("hybrid", "reactive"), _of_hybrid),
        (("oracle",), _against_oracle),
    ]
    return [figure for names, made in parts if all(n in policies for n in names) for figure in made(policies, bound)]


def _against_reactive(policies: Policies, bound: bool) -> list[Figure]:
    one, other = policies["foreshard"], policies["reactive"]
    was, now = other["overload_interval_share"], one["overload_interval_share"]
    # Where reactive has no overload, none can be avoided.
    avoided = 100 * (1 - now / was) if was else 100.0 * (now == 0)
    beside = f"{_percent(now)} of the time, reactive {_percent(was)}"
    return [
        Figure("overloaded time avoided, against reactive", avoided, "%", _AVOIDED if bound else None, True, beside),
        Figure("node-hours, of reactive's", one["node_hours"] / other["node_hours"], "×", _DEARER if bound else None),
    ]


def _against_peak(policies: Policies, bound: bool) -> list[Figure]:
    peak = policies["static_peak"]["node_hours"]
    saved, best = (1 - policies[name]["node_hours"] / peak for name in ("foreshard", "oracle"))
    of_best = 100 * saved / best if best > 0 else 100.0 * (saved >= best)
    over = 100 * policies["foreshard"]["overload_request_share"]
    return [
        Figure("node-hours saved, against static_peak", 100 * saved, "%", _SAVED if bound else None, True),
        Figure("requests above capacity", over, "%", _OVERLOAD if bound else None),
        Figure(
            "of the oracle's saving", of_best, "%", _OF_ORACLE if bound else None, True, f"the oracle saves {_percent(best)}"
        ),
    ]


def _against_hash(policies: Policies, bound: bool) -> list[Figure]:
    one, other = (policies[name]["bytes_moved"] for name in ("foreshard", "hash_elastic"))
    ratio = one / other if other else float(one > 0)
    return [Figure("bytes moved, of hash_elastic's", ratio, "×", _MOVED if bound else None)]


def _of_hybrid(policies: Policies, bound: bool) -> list[Figure]:
    """On every trace, foreseeable or not."""
    one, other = policies["hybrid"], policies["reactive"]
    over, most = (100 * policy["overload_request_share"] for policy in (one, other))
    return [
        Figure("hybrid: requests above capacity, at most reactive's", over, "%", most),
        Figure("hybrid: node-hours, of reactive's", one["node_hours"] / other["node_hours"], "×", _HYBRID_DEARER),
    ]


def _against_oracle(policies: Policies, bound: bool) -> list[Figure]:
    """A policy with less of both than the oracle has seen the future, or the replay is wrong."""
    best = policies["oracle"]
    better = [
        name
        for name, policy in policies.items()
        if policy["node_hours"] < 0.99 * best["node_hours"]
        and policy["overload_request_share"] < 0.99 * best["overload_request_share"]
    ]
    return [Figure("policies with less of both than the oracle", len(better), "", 0, beside=", ".join(better))]


def summary(figures: Mapping[str, Sequence[Figure]]) -> str:
    """One row a figure, one column a trace; a limit differs by trace where it is another policy's figure."""
    lines = [f"| figure | to reach | {' | '.join(figures)} |", "|---" * (2 + len(figures)) + "|"]
    names = list(dict.fromkeys(figure.what for of in figures.values() for figure in of))
    for what in names:
        row = [next((figure for figure in of if figure.what == what), None) for of in figures.values()]
        lines.append(f"| {what} | {_reach(row)} | {' | '.join(_cell(figure) for figure in row)} |")
    return "\n".join(lines)


def _reach(row: Sequence[Figure | None]) -> str:
    reaches = {(f.reach, f.at_least, f.unit) for f in row if f is not None and f.reach is not None}
    if len(reaches) != 1:
        return "each its own" if reaches else ""
    reach, at_least, unit = reaches.pop()
    return f"{'≥' if at_least else '≤'} {shown(reach or 0.0)} {unit}".strip()


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    verdict = {None: "", True: ", met", False: ", **missed**"}[figure.met]
    own = f" (≤ {_three(figure.reach)})" if figure.reach is not None and "at most" in figure.what else ""
    return f"{_three(figure.ours)} {figure.unit}".strip() + own + verdict


def trace_table(document: Mapping[str, Any]) -> str:
    """What the trace is, one row a policy, and what limits it."""
    peak = document["policies"].get("static_peak", {}).get("node_hours")
    lines = [
        f"{document['trace']}: {document['entities']:,} entities on {document['shards']} shards, intervals of "
        f"{document['interval_seconds'] // 60} min, {document['test_days']:.3g} days of test; replayed in "
        f"{document['cpu_seconds']:.0f} s of CPU time (wall {document['seconds']:.0f} s).",
        "",
        f"| policy | {' | '.join(_COLUMNS)} |",
        "|---" * (1 + len(_COLUMNS)) + "|",
    ]
    for name, figures in document["policies"].items():
        cells = [
            _percent(figures["overload_request_share"]),
            _percent(figures["overload_interval_share"]),
            f"{figures['p99_latency_ms']:,.0f} ms",
            f"{figures['node_hours']:,.0f}",
            f"{100 * figures['node_hours'] / peak:.1f} %" if peak else "",
            f"{figures['bytes_moved'] / 1e9:,.0f} GB",
            f"{figures['moves']:,}",
            f"{figures['imbalance_p95']:.2f}",
            f"{figures['reconfigurations']:,}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(f"- {note[:1].upper()}{note[1:]}." for note in document["notes"])]
    return "\n".join(lines).rstrip()


def frontier_table(document: Mapping[str, Any]) -> str:
    """Each policy's settings, from the cheapest: node-hours and requests above capacity; empty without a frontier."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = document.get("frontier", {})
    lines = ["| policy | setting: node-hours, requests above capacity |", "|---|---|"]
    for name, curve in curves.items():
        points = sorted(curve, key=lambda point: point["node_hours"])
        said = [f"{p['node_hours']:,.0f}, {_percent(p['overload_request_share'])}" for p in points]
        knobs = [f"{p['knob']}: " if p["knob"] else "" for p in points]
        lines.append(f"| {name} | {'; '.join(knob + what for knob, what in zip(knobs, said, strict=True))} |")
    return "\n".join(lines) if curves else ""


def _percent(share: float) -> str:
    return f"{_three(100 * share)} %"


def _three(value: float) -> str:
    """Three digits that count, whole thousands in full."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
