"""Where the reports of checks are: one folder a run under home/quality, the newest runs kept.

A report is two files, `<stamp>.<table>.<status>.json` and the same as `.html`. What happened to a run is in the names alone, so
that a list of runs reads no file, and writers never change a file that another one wrote.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

# What spark_step hands to a job; Airflow itself sets the other pair for tasks in Python.
_VARIABLES = (("FORESHARD_DAG_ID", "FORESHARD_RUN_ID"), ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_DAG_RUN_ID"))
BY_HAND = "by_hand"
STATUSES = ("passed", "warning", "critical")
_SAFE = re.compile(r"[A-Za-z0-9_~+-][A-Za-z0-9_.:~+-]{0,199}")
_REPORT = re.compile(r"(\d{8}T\d{6}\d{6})\.([A-Za-z0-9_-]+)\.(passed|warning|critical)\.json")
_PAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.html")
_STAMP = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True)
class Run:
    """One run whose checks belong together: run ids of two DAGs may be the same."""

    dag_id: str
    run_id: str

    def folder(self, home: Path) -> Path:
        return site(home) / folder_name(self.dag_id) / folder_name(self.run_id)


@dataclass(frozen=True)
class Report:
    """One check of one table."""

    path: Path  # of the JSON file
    at: datetime
    table: str
    status: str

    @property
    def page(self) -> str:
        """The file name of its page, beside it."""
        return f"{self.path.stem}.html"


@dataclass(frozen=True)
class RunReports:
    """A run that left reports, oldest check first."""

    dag: str  # folder names, which are the ids themselves unless these hold odd characters
    run: str
    reports: tuple[Report, ...]

    @property
    def at(self) -> datetime:
        return self.reports[-1].at

    @property
    def status(self) -> str:
        """The worst one of the newest check of each table: a repeated task that passes makes good what failed before."""
        newest = {report.table: report.status for report in self.reports}
        return max(newest.values(), key=STATUSES.index)

    def tables_with(self, status: str) -> list[str]:
        """The tables whose newest check came to this status, sorted."""
        newest = {report.table: report.status for report in self.reports}
        return sorted(table for table, found in newest.items() if found == status)


def site(home: Path) -> Path:
    """The root of all reports."""
    return home / "quality"


def current_run() -> Run:
    """The Airflow run this process works for, or else a run of its own."""
    for dag, run in _VARIABLES:
        if os.environ.get(run):
            return Run(os.environ.get(dag) or BY_HAND, os.environ[run])
    return _run_of_process(os.getpid())


@cache
def _run_of_process(process: int) -> Run:
    return Run(BY_HAND, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{process}")


def folder_name(identifier: str) -> str:
    """A name fit for a path: the id itself if it is one, else as much of it as is, and a hash. A folder's name is its own."""
    if _SAFE.fullmatch(identifier):
        return identifier
    digest = hashlib.sha256(identifier.encode()).hexdigest()[:12]
    kept = re.sub(r"[^A-Za-z0-9_~+-]", "_", identifier)[:100] or "_"
    return f"{kept}-{digest}"


def report_name(table: str, status: str, at: datetime) -> str:
    """The file name of a report, without its ending."""
    return f"{at.strftime(_STAMP)}.{re.sub(r'[^A-Za-z0-9_-]', '-', table)}.{status}"


def write(path: Path, content: str) -> None:
    """Writes a whole file or none, so that a reader never sees half a page."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(content, "utf-8")
    partial.replace(path)


def reports_in(folder: Path) -> RunReports | None:
    """What one run's folder holds; None if it has no report."""
    found = []
    for name in sorted(_names(folder)):
        if match := _REPORT.fullmatch(name):
            found.append(Report(folder / name, _moment(match[1]), match[2], match[3]))
    return RunReports(folder.parent.name, folder.name, tuple(found)) if found else None


def newest_runs(home: Path, limit: int | None = None) -> list[RunReports]:
    """The runs that left reports, newest first."""
    found = []
    for folder in _run_folders(home)[:limit]:
        if run := reports_in(folder):
            found.append(run)
    return found


def prune(home: Path, keep: int) -> None:
    """Removes all but the newest `keep` runs."""
    for folder in _run_folders(home)[keep:]:
        shutil.rmtree(folder, ignore_errors=True)


def find(home: Path, dag_id: str, run_id: str, file: str = "index.html") -> Path | None:
    """A file of a run's report, if there is one; never a path outside of the run's folder."""
    return _page(Run(dag_id, run_id).folder(home), file)


def find_suite(home: Path, file: str) -> Path | None:
    """A page about suites, if there is one."""
    return _page(site(home) / "expectations", file)


def _page(folder: Path, file: str) -> Path | None:
    path = folder / file
    return path if _PAGE.fullmatch(file) and path.is_file() else None


def _run_folders(home: Path) -> list[Path]:
    """All runs' folders, newest first by when something was last written into them."""
    dated = []
    for dag in _folders(site(home)):
        for run in _folders(Path(dag.path)):
            try:
                dated.append((run.stat().st_mtime_ns, run.path))
            except FileNotFoundError:  # pruned by another process meanwhile
                continue
    return [Path(path) for _, path in sorted(dated, reverse=True)]


def _folders(path: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return


def _moment(stamp: str) -> datetime:
    """As strptime would read it, in a tenth of the time: a list of runs has thousands."""
    parts = (stamp[:4], stamp[4:6], stamp[6:8], stamp[9:11], stamp[11:13], stamp[13:15], stamp[15:])
    return datetime(*(int(part) for part in parts), tzinfo=UTC)  # type: ignore[arg-type,misc]


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
