"""The benchmark's tables, as aligned text or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.forecast_metrics import LEVELS

SHARES = tuple(f"≤ q{level:.0%}".rstrip("%") for level in LEVELS)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """The first column is flush left, the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(padded) + " |" if markdown else "  ".join(padded).rstrip()

    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(heads), *([line(rule)] if markdown else []), *(line(row) for row in rows)])


def interval(found: dict[str, float] | None, percent: bool = False) -> str:
    """An estimate with its bounds."""
    if found is None or found["value"] != found["value"]:
        return "—"
    if percent:
        return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"
    return f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"


def of_set(figures: dict[str, Any], markdown: bool) -> str:
    """One set: a line for each contestant, the lowest SPL95 first among those that forecast all series."""
    entries = figures["contestants"]
    order = sorted(
        entries, key=lambda name: (entries[name]["forecasts"] < figures["forecasts"], entries[name]["spl95"]["value"])
    )
    heads = ["", "forecasts", "SPL95", "its median", "MASE", *SHARES, "ms a series", "SPL95 more than foreshard's, same rows"]
    rows = []
    for name in order:
        found = entries[name]
        shares = [f"{share['value']:.1%}" for share in found["coverage"]]
        figure = [f"{found['spl95']['value']:.4f}", f"{found['spl95_median']:.4f}", f"{found['mase']['value']:.3f}"]
        rows.append(
            [name, str(found["forecasts"]), *figure, *shares, f"{found['ms']:.3g}", interval(found["against_foreshard"])]
        )
    title = (
        f"{figures['name']}: {figures['series']} series, {figures['origins']} origins, context {figures['context']} and "
        f"horizon {figures['horizon']} steps of {figures['step']}; {figures['skipped']} contexts with too little load left out"
    )
    return f"{'### ' if markdown else ''}{title}\n\n{table(heads, rows, markdown)}"


def of_all(pooled: dict[str, Any], markdown: bool) -> str:
    """Over all sets: those that forecast every series."""
    heads = ["all sets", "mean SPL95 of sets", "mean MASE of sets", *SHARES, "ms a series"]
    order = sorted(pooled, key=lambda name: pooled[name]["spl95"])
    rows = [
        [
            name,
            f"{pooled[name]['spl95']:.4f}",
            f"{pooled[name]['mase']:.3f}",
            *(interval(share, percent=True) for share in pooled[name]["coverage"]),
            f"{pooled[name]['ms']:.3g}",
        ]
        for name in order
    ]
    return table(heads, rows, markdown)


def of_targets(targets: Sequence[dict[str, str]], markdown: bool) -> str:
    rows = [[t["figure"], t["measured"], t["to_reach"], t["met"]] for t in targets]
    return table(["", "measured", "to reach", "met"], rows, markdown)
