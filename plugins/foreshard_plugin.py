"""Adds to Airflow the page *Foreshard* (epochs, the latest plan, how far the data reaches) and each run's report of checks."""

from __future__ import annotations

from html import escape
from pathlib import Path

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag, requires_access_view
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from foreshard.orchestration.overview import Link, Table, overview

ROUTE = "/foreshard"
STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 0 0 2em } caption { text-align: left; font-weight: 600; padding: .4em 0 }
td, th { border: 1px solid #ccc; padding: .3em .7em; text-align: left; vertical-align: top } th { background: #f3f3f3 }
"""

# A plugin's routes have no authentication of their own: each names what it asks for. Whoever may see a DAG's runs may see
# their reports.
OPERATORS = [Depends(requires_access_view(AccessView.PLUGINS))]
WHO_SEES_THE_RUN = [Depends(requires_access_dag("GET", DagAccessEntity.RUN))]
app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/", dependencies=OPERATORS)
def page() -> HTMLResponse:
    tables = "".join(_as_html(table) for table in overview())
    return HTMLResponse(f"<!doctype html><title>Foreshard</title><style>{STYLE}</style><h1>Foreshard</h1>{tables}")


@app.get("/quality/index.html", dependencies=OPERATORS)
def runs() -> HTMLResponse:
    from foreshard.checks.reports import newest_runs
    from foreshard.checks.run_pages import index_page

    return HTMLResponse(index_page(newest_runs(_home())))


@app.get("/quality/expectations/{file}", dependencies=OPERATORS)
def expectations(file: str) -> HTMLResponse:
    from foreshard.checks.reports import find_suite

    return _served(find_suite(_home(), file), "There is no page of this suite yet: it is made when the table is first checked.")


@app.get("/quality/{dag_id}/{run_id}/", dependencies=WHO_SEES_THE_RUN)
@app.get("/quality/{dag_id}/{run_id}/{file}", dependencies=WHO_SEES_THE_RUN)
def report(dag_id: str, run_id: str, file: str = "index.html") -> HTMLResponse:
    from foreshard.checks.reports import find

    missing = (
        f"No check of {dag_id} {run_id} has left a report here: it has checked nothing yet, or its report was too old to keep."
    )
    return _served(find(_home(), dag_id, run_id, file), missing)


def _home() -> Path:
    from foreshard.settings import load

    return load().home


def _served(path: Path | None, missing: str) -> HTMLResponse:
    if path is None:
        return HTMLResponse(f"<!doctype html><title>Foreshard</title><style>{STYLE}</style><p>{escape(missing)}</p>", 404)
    return HTMLResponse(path.read_text("utf-8"))


def _as_html(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>"


def _cell(cell: object) -> str:
    return f'<a href="{escape(cell.path)}">{escape(cell.text)}</a>' if isinstance(cell, Link) else escape(str(cell))


class ForeshardPlugin(AirflowPlugin):
    name = "foreshard"
    fastapi_apps = [{"app": app, "url_prefix": ROUTE, "name": "Foreshard"}]  # noqa: RUF012  # as Airflow wants it
    external_views = [  # noqa: RUF012
        {"name": "Foreshard", "href": f"{ROUTE}/", "destination": "nav", "category": "browse", "url_route": "foreshard"},
        {
            "name": "Data quality",
            "href": f"{ROUTE}/quality/{{DAG_ID}}/{{RUN_ID}}/",
            "destination": "dag_run",
            "url_route": "data-quality",
        },
    ]
