"""Writes reports and their pages under home/quality: a site of plain files that a browser opens without a server.

Pages are made where the check was made. The library is loaded there and its templates are compiled, so that a page costs
milliseconds; whoever shows it later (Airflow's API server) serves a file and loads nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from foreshard.checks import data_docs, reports, run_pages
from foreshard.checks.outcome import Outcome
from foreshard.checks.suites import suite, suite_names
from foreshard.settings import Settings

# The list that each check writes anew; `build` writes all.
_LISTED_RUNS = 50


def record(table: str, outcome: Outcome, settings: Settings) -> None:
    """Adds a report and its page to the folder of the current run, and brings the lists that lead there up to date."""
    run, at = reports.current_run(), datetime.now(UTC)
    folder = run.folder(settings.home)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    name = reports.report_name(table, outcome.status, at)
    document = {
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "table": table,
        "at": at.isoformat(),
        "status": outcome.status,
        "expectations": outcome.expectations,
        "findings": [asdict(finding) for finding in outcome.findings],
        "figures": outcome.figures,
        "validation": outcome.report,
    }
    figures = run_pages.figures_table(outcome.figures)
    page = data_docs.check_page(outcome.validation, table, outcome.status, f"{run.dag_id} {run.run_id}", at, figures)
    reports.write(folder / f"{name}.html", page)
    reports.write(folder / f"{name}.json", json.dumps(document, default=str))
    if found := reports.reports_in(folder):
        reports.write(folder / "index.html", run_pages.run_page(run, found))
    _write_suite(reports.site(settings.home), table, settings.slots)
    if is_new:
        reports.prune(settings.home, settings.checks.kept_runs)
    _write_index(settings)


def build(settings: Settings) -> Path:
    """Writes the pages of all suites and the list of all runs; returns the path of the list."""
    root = reports.site(settings.home)
    for name in suite_names():
        _write_suite(root, name, settings.slots)
    return _write_index(settings, None)


@cache
def _write_suite(root: Path, name: str, slots: int) -> None:
    """Once a process: a suite does not change while it runs."""
    folder = root / "expectations"
    folder.mkdir(parents=True, exist_ok=True)
    reports.write(folder / f"{name}.html", data_docs.suite_page(name, suite(name, slots)))
    there = sorted(path.stem for path in folder.glob("*.html") if path.stem != "index" and not path.stem.startswith("."))
    reports.write(folder / "index.html", run_pages.suites_page(there))


def _write_index(settings: Settings, limit: int | None = _LISTED_RUNS) -> Path:
    path = reports.site(settings.home) / "index.html"
    reports.write(path, run_pages.index_page(reports.newest_runs(settings.home, limit)))
    return path
