"""The page of one run and the list of runs: plain HTML from what the reports say, without Great Expectations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from foreshard.checks.reports import Report, Run, RunReports
from foreshard.checks.stylesheet import HEAD

# A run with more checks than this was repeated many times; its newest say enough.
_SHOWN_CHECKS = 100
_SHOWN_ROWS = 31


def run_page(run: Run, found: RunReports) -> str:
    """What each check of the run came to, newest first, with the figures it judged. It lies two folders deep."""
    shown = list(reversed(found.reports))[:_SHOWN_CHECKS]
    documents = [json.loads(report.path.read_text("utf-8")) for report in shown]
    rows = "".join(_check_row(r, d) for r, d in zip(shown, documents, strict=True))
    figures = "".join(_check_figures(r, d) for r, d in zip(shown, documents, strict=True))
    body = (
        f"<nav><a href='../../index.html'>Data quality</a></nav><h1>{escape(run.dag_id)} {chip(found.status)}</h1>"
        f"<p class='dim'>{escape(run.run_id)}</p><h2>Checks</h2><div class='scroll'><table>"
        f"<tr><th>time (UTC)</th><th>table</th><th>result</th><th>what was not as expected</th></tr>{rows}</table></div>"
        f"<h2>Figures</h2>{figures}"
    )
    return _page(f"{run.dag_id} {run.run_id}", body)


def _check_row(report: Report, document: dict[str, Any]) -> str:
    said = "".join(f"<li>{escape(f['severity'])}: {escape(f['sentence'])}</li>" for f in document["findings"])
    found = f"<ul>{said}</ul>" if said else f"<span class='dim'>nothing; {document['expectations']} expectations</span>"
    link = f"<a href='{quote(report.page)}'>{escape(document['table'])}</a>"
    cells = f"<td class='when'>{_time(report)}</td><td class='name'>{link}</td><td>{chip(report.status)}</td><td>{found}</td>"
    return f"<tr>{cells}</tr>"


def _check_figures(report: Report, document: dict[str, Any]) -> str:
    return f"<h4>{escape(document['table'])}</h4>{figures_table(document['figures'])}"


def figures_table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures that were judged: those of one row side by side, those of more as a table."""
    if not rows:
        return "<p class='dim'>no rows</p>"
    if len(rows) == 1:
        pairs = "".join(f"<div>{escape(name)}<br><b>{_value(value)}</b></div>" for name, value in rows[0].items())
        return f"<div class='pairs'>{pairs}</div>"
    # A long name may be broken where its words end.
    head = "".join(f"<th>{escape(name).replace('_', '_<wbr>')}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_value(v)}</td>" for v in row.values()) + "</tr>" for row in rows[:_SHOWN_ROWS])
    more = f"<p class='dim'>and {len(rows) - _SHOWN_ROWS} more</p>" if len(rows) > _SHOWN_ROWS else ""
    return f"<div class='scroll'><table class='figures'><tr>{head}</tr>{body}</table></div>{more}"


def _value(value: Any) -> str:
    if value is None:
        return "<span class='dim'>unknown</span>"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def index_page(runs: Sequence[RunReports]) -> str:
    """The list of runs, newest first, each with a link to its page."""
    rows = "".join(_run_row(run) for run in runs)
    none = "<p>No job has checked anything yet.</p>" if not runs else ""
    body = (
        "<h1>Data quality</h1><p class='dim'>Every table is checked before its commit. A critical finding stops it, a warning "
        "is recorded. <a href='expectations/index.html'>What is expected</a></p><div class='scroll'><table>"
        "<tr><th>last check (UTC)</th><th>DAG</th><th>run</th><th>result</th><th>checks</th><th>tables with findings</th></tr>"
        f"{rows}</table></div>{none}"
    )
    return _page("Data quality", body)


def _run_row(run: RunReports) -> str:
    link = f"<a href='{quote(run.dag, safe='')}/{quote(run.run, safe='')}/index.html'>"
    worse = ", ".join([*run.tables_with("critical"), *run.tables_with("warning")])
    return (
        f"<tr><td class='when'>{run.at:%Y-%m-%d %H:%M:%S}</td><td>{escape(run.dag)}</td><td>{link}{escape(run.run)}</a></td>"
        f"<td>{chip(run.status)}</td><td class='number'>{len(run.reports)}</td><td>{escape(worse)}</td></tr>"
    )


def suites_page(names: Sequence[str]) -> str:
    """The list of suites. It lies one folder deep, beside their pages."""
    items = "".join(f"<li><a href='{quote(name)}.html'>{escape(name)}</a></li>" for name in names)
    return _page(
        "What is expected", f"<nav><a href='../index.html'>Data quality</a></nav><h1>What is expected</h1><ul>{items}</ul>"
    )


def chip(status: str) -> str:
    """The result of a check as a small coloured word."""
    return f"<span class='chip {status}'>{status}</span>"


def _time(report: Report) -> str:
    return f"{report.at:%Y-%m-%d %H:%M:%S}"


def _page(title: str, body: str) -> str:
    return f"<!doctype html><html lang='en'><head><title>{escape(title)}</title>{HEAD}</head><body>{body}</body></html>"
