"""Great Expectations' Data Docs of one check and one suite, as pages that need nothing but themselves.

Its own pages load styles and scripts from public servers. Here its renderers and block templates are used within a frame of
ours, which carries its style and runs no script.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from html import escape
from typing import Any

from foreshard.checks import run_pages
from foreshard.checks.stylesheet import HEAD
from foreshard.checks.suites import Expectation, as_suite

# Replaces the library's frame: a path back, then the sections.
_PAGE = (
    '<!doctype html><html lang="en"><head><title>{{ heading }}</title>'
    + HEAD
    + """</head><body><nav>{{ path }}</nav><h1>{{ heading }} {{ chip }}</h1>
{% if figures %}<h2>Figures</h2>{{ figures }}{% endif %}
{% for section in sections %}{% set section_loop = loop -%}{% include 'section.j2' %}{% endfor %}
<p class="dim">Rendered by Great Expectations {{ ge_version }}.</p></body></html>"""
)
# The library's own needs a script to fold and unfold.
_COLLAPSE = """<details><summary>{{ content_block.get("collapse_toggle_link", "Show more") | render_content_block }}</summary>
{% for block in content_block["collapse"] %}{{ block | render_content_block(content_block_id=content_block_id) }}{% endfor %}
</details>"""
_BETWEEN_TAGS = re.compile(r"\s*\n\s*")
_SUITE_LINK = re.compile(r'href="(\.\./)+expectations/')


@cache
def _view() -> Any:
    """One view for the whole process: its templates are compiled once, which takes ten times as long as a page does."""
    from great_expectations.render.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, DictLoader

    view = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([DictLoader({"page.j2": _PAGE, "collapse.j2": _COLLAPSE}), view.env.loader])
    return view


def check_page(outcome: Any, table: str, status: str, run: str, at: datetime, figures: str) -> str:
    """The page of one validation result, with the figures (HTML) that it is about. It lies two folders deep.

    The outcome is made fit for HTML and is of no use for anything else afterwards.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    outcome.meta["run_id"] = {"run_name": escape(run), "run_time": at.isoformat()}
    outcome.meta.setdefault("batch_spec", {})["data_asset_name"] = table
    for result in outcome.results:
        result.result = _escaped(result.result)
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(outcome)
    path = '<a href="../../index.html">Data quality</a> › <a href="index.html">this run</a>'
    return _render(document, table, path, run_pages.chip(status), figures)


def _escaped(value: Any) -> Any:
    """Values of rows as text: the library puts them into its tables as they are."""
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return escape(value) if isinstance(value, str) else value


def suite_page(name: str, expectations: tuple[Expectation, ...]) -> str:
    """The page that says in words what a suite expects. It lies one folder deep."""
    from great_expectations.render.renderer import ExpectationSuitePageRenderer

    document = ExpectationSuitePageRenderer().render(as_suite(name, expectations))
    return _render(document, f"What is expected of {name}", '<a href="../index.html">Data quality</a>')


def _render(document: Any, heading: str, path: str, chip: str = "", figures: str = "") -> str:
    page = _view().render(document, heading=heading, path=path, chip=chip, figures=figures)
    # The templates leave thousands of blank lines; what is kept is a third.
    return _SUITE_LINK.sub('href="../../expectations/', _BETWEEN_TAGS.sub("\n", page))
