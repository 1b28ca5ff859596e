"""The files that ship beside the package (`sql/`, `expectations/`), from a checkout or from the archive given to --py-files."""

from __future__ import annotations

from importlib.resources import files
from typing import Any


def folder(name: str) -> Any:
    """A shipped folder as a `Traversable`: a path in a checkout, a zip path inside an archive."""
    package: Any = files("foreshard")
    return package.parent.joinpath(name)


def text(*parts: str) -> str:
    """The text of one shipped file, for example `text("sql", "publish_epoch.sql")`."""
    return str(folder(parts[0]).joinpath(*parts[1:]).read_text("utf-8"))


def names(name: str, ending: str) -> list[str]:
    """The sorted names of a shipped folder's files with this ending."""
    return sorted(entry.name for entry in folder(name).iterdir() if entry.name.endswith(ending))
