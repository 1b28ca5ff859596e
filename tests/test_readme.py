"""The README is true: its settings parse, its commands, files and links exist, and its two commands are the Makefile's."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from foreshard import settings as configuration

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_settings_shown_are_accepted_as_they_stand() -> None:
    shown = blocks("toml")
    assert len(shown) == 1
    parsed = configuration.parse(tomllib.loads(shown[0]), "README.md")
    assert [node.node_id for node in parsed.nodes] == ["pipeline-a", "pipeline-b"]


def test_the_commented_settings_are_accepted_too() -> None:
    shown, uncommented = re.subn(r"^# (\w+ = |\[)", r"\1", blocks("toml")[0], flags=re.MULTILINE)
    assert uncommented
    assert configuration.parse(tomllib.loads(shown), "README.md").lake == "s3a://bucket/lake"


def test_its_two_commands_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = re.findall(r"^make (\w+)$", README, re.MULTILINE)
    assert commands == ["demo", "test"]
    for target in re.findall(r"make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"README names `make {target}`, the Makefile has none"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_the_paths_it_names_exist() -> None:
    for path in re.findall(r"`((?:dags|spark_jobs|foreshard|expectations|docs)/[\w./-]*)`", README):
        assert (ROOT / path).exists(), f"README names {path}, which is not there"


def test_every_command_it_names_answers_to_help() -> None:
    named = set(re.findall(r"foreshard (init|pipeline|gateway|status|doctor|plan|transition|routes|forecast)\b", README))
    command_line = [sys.executable, "-m", "foreshard.cli", "--help"]
    listed = subprocess.run(command_line, capture_output=True, text=True, check=True).stdout
    assert named
    for command in named:
        assert re.search(rf"\b{command}\b", listed), f"README names `foreshard {command}`, which --help does not list"
