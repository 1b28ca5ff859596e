"""Adds the page *Foreshard* to Airflow's navigation: the current epoch, the latest plan, and how far the data reaches."""

from __future__ import annotations

from html import escape

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from foreshard.orchestration.overview import Table, overview

ROUTE = "/foreshard"
STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 0 0 2em } caption { text-align: left; font-weight: 600; padding: .4em 0 }
td, th { border: 1px solid #ccc; padding: .3em .7em; text-align: left; vertical-align: top } th { background: #f3f3f3 }
"""

# A plugin's routes have no authentication of their own.
app = FastAPI(dependencies=[Depends(requires_access_view(AccessView.PLUGINS))], docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/")
def page() -> HTMLResponse:
    tables = "".join(_as_html(table) for table in overview())
    return HTMLResponse(f"<!doctype html><title>Foreshard</title><style>{STYLE}</style><h1>Foreshard</h1>{tables}")


def _as_html(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>"


class ForeshardPlugin(AirflowPlugin):
    name = "foreshard"
    fastapi_apps = [{"app": app, "url_prefix": ROUTE, "name": "Foreshard"}]  # noqa: RUF012  # as Airflow wants it
    external_views = [  # noqa: RUF012
        {"name": "Foreshard", "href": f"{ROUTE}/", "destination": "nav", "category": "browse", "url_route": "foreshard"}
    ]
