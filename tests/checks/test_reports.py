"""Reports are kept by run, the newest runs only, and a run's report is found by its ids and never outside of its folder."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from summaries import GOOD, good
from typer.testing import CliRunner

from foreshard.checks import quality_site, reports
from foreshard.checks.gate import QualityError, require
from foreshard.checks.reports import Run
from foreshard.cli import app
from foreshard.settings import CheckSettings, Settings

SCHEDULED = "scheduled__2013-11-28T05:00:00+00:00"
VARIABLES = ("FORESHARD_DAG_ID", "FORESHARD_RUN_ID", "AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_DAG_RUN_ID")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return Settings(home=tmp_path)


def work_for(monkeypatch: pytest.MonkeyPatch, dag_id: str, run_id: str) -> Run:
    monkeypatch.setenv("FORESHARD_DAG_ID", dag_id)
    monkeypatch.setenv("FORESHARD_RUN_ID", run_id)
    return Run(dag_id, run_id)


def test_the_run_is_what_spark_step_says_or_airflow_or_else_one_of_its_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = reports.current_run()
    assert own == reports.current_run(), "one process is one run"
    assert own.dag_id == reports.BY_HAND
    assert own.run_id.endswith(f"-{os.getpid()}")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "reshard")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", SCHEDULED)
    assert reports.current_run() == Run("reshard", SCHEDULED)
    work_for(monkeypatch, "aggregate", "manual__1")
    assert reports.current_run() == Run("aggregate", "manual__1")


def test_runs_of_two_dags_with_one_id_keep_their_reports_apart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for dag_id, table in (("aggregate", "usage_record"), ("learn", "forecast_score")):
        work_for(monkeypatch, dag_id, SCHEDULED)
        require(table, good(table), settings)
    found = {run.dag: [report.table for report in run.reports] for run in reports.newest_runs(settings.home)}
    assert found == {"aggregate": ["usage_record"], "learn": ["forecast_score"]}
    for dag_id in found:
        assert reports.find(settings.home, dag_id, SCHEDULED) is not None


def test_only_the_newest_runs_are_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(settings, checks=CheckSettings(kept_runs=3))
    for number in range(5):
        run = work_for(monkeypatch, "aggregate", f"run{number}")
        require("serving", good("serving"), few)
        # The file system's clock may be coarser than a run of this test.
        os.utime(run.folder(few.home), ns=(number, number))
    kept = {run.run for run in reports.newest_runs(few.home)}
    assert kept == {"run2", "run3", "run4"}


def test_what_a_repeated_task_makes_good_no_longer_counts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = work_for(monkeypatch, "aggregate", SCHEDULED)
    with pytest.raises(QualityError):
        require("usage_hourly", good("usage_hourly", unreconciled_total=1), settings)
    found = reports.reports_in(run.folder(settings.home))
    assert found is not None
    assert (found.status, found.tables_with("critical")) == ("critical", ["usage_hourly"])
    require("usage_hourly", good("usage_hourly"), settings)
    again = reports.reports_in(run.folder(settings.home))
    assert again is not None
    assert (again.status, len(again.reports)) == ("passed", 2)


def test_checks_at_once_all_leave_their_reports(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = work_for(monkeypatch, "aggregate", SCHEDULED)
    tables = ["usage_record", "query_record", "usage_hourly", "query_load"]
    threads = [threading.Thread(target=require, args=(table, good(table), settings)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = reports.reports_in(run.folder(settings.home))
    assert found is not None
    assert sorted(report.table for report in found.reports) == sorted(tables)


@given(st.text(max_size=300))
def test_any_id_has_one_folder_directly_below_which_names_itself(identifier: str) -> None:
    name = reports.folder_name(identifier)
    assert name == reports.folder_name(name)
    assert Path(name).name == name
    assert name not in ("", ".", "..")
    assert len(name.encode()) <= 255


def test_different_ids_have_different_folders() -> None:
    ids = ["a/b", "a_b", "a b", "a?b", "", ".", "..", "../a", "x" * 300, "x" * 301]
    assert len({reports.folder_name(i) for i in ids}) == len(ids)


@pytest.mark.parametrize(
    ("dag_id", "run_id", "file"),
    [
        ("..", "..", "index.html"),
        ("aggregate", "..", "index.html"),
        ("aggregate", "../aggregate/" + SCHEDULED, "index.html"),
        ("aggregate", SCHEDULED, "../../index.html"),
        ("aggregate", SCHEDULED, "/etc/hostname"),
        ("aggregate", SCHEDULED, ""),
        ("aggregate", SCHEDULED, "secret.json"),
        ("aggregate", "another", "index.html"),
    ],
)
def test_nothing_outside_of_a_runs_pages_is_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, dag_id: str, run_id: str, file: str
) -> None:
    work_for(monkeypatch, "aggregate", SCHEDULED)
    require("serving", good("serving"), settings)
    assert reports.find(settings.home, "aggregate", SCHEDULED) is not None
    (settings.home / "index.html").write_text("outside", "utf-8")
    (Run("aggregate", SCHEDULED).folder(settings.home) / "secret.json").write_text("{}", "utf-8")
    assert reports.find(settings.home, dag_id, run_id, file) is None


class _Loads(HTMLParser):
    """Everything a page would load, run or lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.sources += [str(given[name]) for name in ("src", "srcset", "data", "action") if name in given]
        if "href" in given:
            (self.links if tag == "a" else self.sources).append(str(given["href"]))


def test_the_pages_load_nothing_and_their_links_lead_to_pages(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in sorted(GOOD):
        work_for(monkeypatch, "aggregate", f"{SCHEDULED}~{name}")
        require(name, good(name), settings)
        if name == "usage_record":
            require(name, good(name, skewed_share=0.5, volume_ratio=9), settings)
    index = quality_site.build(settings)
    pages = list(reports.site(settings.home).rglob("*.html"))
    assert index in pages
    assert len(pages) > 3 * len(GOOD)
    for page in pages:
        text = page.read_text("utf-8")
        seen = _Loads(text)
        assert seen.sources == [], page
        assert not seen.tags & {"script", "img", "iframe", "link", "object", "embed", "base", "form"}, page
        assert not re.search(r"@import|url\(", text), page
        assert "default-src 'none'" in text
        for link in seen.links:
            if not link.startswith("#"):
                target = page.parent / unquote(link)
                assert target.is_file(), f"{page.name} leads to {link}"


def test_the_command_builds_the_list_and_prints_where_it_is(settings: Settings, tmp_path: Path) -> None:
    require("serving", good("serving", mismatched_segments=0), settings)
    (tmp_path / "foreshard.toml").write_text('home = "."\n', "utf-8")
    said = CliRunner().invoke(app, ["data-docs", "--no-open", "--settings", str(tmp_path / "foreshard.toml")])
    assert said.exit_code == 0
    index = Path(said.stdout.strip())
    assert index == reports.site(tmp_path) / "index.html"
    assert reports.current_run().run_id in index.read_text("utf-8")


def test_a_page_says_what_was_found_and_why_it_matters(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = work_for(monkeypatch, "aggregate", SCHEDULED)
    require("usage_record", good("usage_record", skewed_share=0.5), settings)
    page = (run.folder(settings.home) / "index.html").read_text("utf-8")
    assert SCHEDULED in page
    assert "it was expected that skewed_share is at most 0.2" in page
    assert "clock is off" in page
    found = reports.reports_in(run.folder(settings.home))
    assert found is not None
    detail = (run.folder(settings.home) / found.reports[0].page).read_text("utf-8")
    assert "skewed_share is at most 0.2, because" in detail
    assert "A failure is a warning" in detail


def test_what_rows_hold_is_shown_as_text(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = work_for(monkeypatch, "<b>dag</b>", "<script>alert(1)</script>")
    twice = pd.concat([good("node_correction", node_id="<script>alert(2)</script>")] * 2)
    with pytest.raises(QualityError):
        require("node_correction", twice, settings)
    pages = [path.read_text("utf-8") for path in run.folder(settings.home).glob("*.html")]
    assert len(pages) == 2
    assert all("<script" not in page and "<b>dag" not in page for page in pages)
    assert all("&lt;script&gt;alert(2)" in page for page in pages)
