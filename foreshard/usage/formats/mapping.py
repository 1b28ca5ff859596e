"""Which field of a record is where in a file, as the settings declare it: resolved once a run, used by every reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from foreshard.errors import ForeshardError
from foreshard.input_settings import AccessLogSettings, InputSettings

if TYPE_CHECKING:
    from foreshard.settings import Settings
    from foreshard.usage.records import RecordKind

FORMATS = {"jsonl": "jsonl", "json": "jsonl", "ndjson": "jsonl", "csv": "csv", "parquet": "parquet", "log": "access_log"}
COMPRESSIONS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4"}


@dataclass(frozen=True)
class MappedField:
    """A field of a record, its type in Spark's terms, its name in the file, and its value where a file has no such column."""

    name: str
    type: str = "string"
    column: str = ""
    constant: str | int | float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its possible names in a file, the declared one first: a file that has the field's own name is read as it is."""
        return (self.column, self.name) if self.column and self.column != self.name else (self.name,)

    @property
    def is_number(self) -> bool:
        return self.type in ("int", "bigint", "double") or self.type.startswith("decimal")

    @property
    def described(self) -> str:
        """Its type in plain words, for sentences like "quantity is not a number"."""
        if self.type.startswith("array"):
            return "list of candidates"
        words = {"string": "text", "timestamp": "time (ISO 8601)", "int": "whole number", "bigint": "whole number"}
        return words.get(self.type, "number")


@dataclass(frozen=True)
class Mapping:
    """How the files of one table are read."""

    table: str
    fields: tuple[MappedField, ...]
    format: str = ""
    delimiter: str = ","
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)

    @property
    def is_plain(self) -> bool:
        """Whether a JSON line is a record as it stands."""
        return all(f.constant is None and len(f.names) == 1 for f in self.fields)

    def format_of(self, name: str) -> str:
        """The format of a file by what is declared, else by its suffix; '' for a file that is no landing file."""
        by_suffix, _ = known_suffix(name)
        return (self.format or by_suffix) if by_suffix else ""


def known_suffix(name: str) -> tuple[str, str]:
    """Format and compression (Arrow's name, '' for none) by a file's suffixes; ('', '') if they are not known.

    >>> known_suffix("access.log.gz"), known_suffix("notes.txt")
    (('access_log', 'gzip'), ('', ''))
    """
    parts = name.lower().split(".")
    compression = COMPRESSIONS.get(parts[-1], "")
    if compression:
        parts.pop()
    format_name = FORMATS.get(parts[-1], "") if len(parts) > 1 else ""
    if not format_name or (compression and format_name == "parquet"):
        return "", ""
    return format_name, compression


def resolve(kind: RecordKind, settings: Settings) -> Mapping:
    """What the settings declare for one log. Raises ForeshardError if a column or constant names no field or has no use."""
    declared: InputSettings = getattr(settings.input, kind.name)
    where = f"{settings.path or 'settings'}: input.{kind.name}"
    names = {f.name for f in kind.fields}
    for table, given in (("columns", declared.columns), ("constants", declared.constants)):
        unknown = sorted(set(given) - names)
        if unknown:
            raise ForeshardError(f"{where}.{table}: {unknown[0]} is no field of {kind.name}; it has {', '.join(sorted(names))}")
    fields = tuple(
        MappedField(f.name, f.type, declared.columns.get(f.name, ""), declared.constants.get(f.name)) for f in kind.fields
    )
    for mapped in fields:
        _check_constant(mapped, where)
    _check_pattern(declared.access_log.entity_pattern, where)
    return Mapping(kind.name, fields, declared.format, declared.delimiter, declared.access_log)


def _check_constant(mapped: MappedField, where: str) -> None:
    value = mapped.constant
    if value is None:
        return
    # A list of candidates cannot be the same for each query, and TOML's times are no ISO text.
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) if mapped.is_number else isinstance(value, str)
    if not fits or mapped.type.startswith("array"):
        raise ForeshardError(f"{where}.constants.{mapped.name}: {value!r} is not a {mapped.described}")


def entity_regex(pattern: str) -> str:
    """The pattern with its one group named, as Arrow wants it."""
    position = 0
    while True:
        position = pattern.index("(", position)
        escaped = (position - len(pattern[:position].rstrip("\\"))) % 2
        inside_class = pattern.rfind("[", 0, position) > pattern.rfind("]", 0, position)
        if not escaped and not inside_class and not pattern.startswith("(?", position):
            return f"{pattern[:position]}(?P<entity>{pattern[position + 1 :]}"
        position += 1


def _check_pattern(pattern: str, where: str) -> None:
    if not pattern:
        return
    try:
        pc.extract_regex(pa.array([""]), entity_regex(pattern))
    except (pa.ArrowInvalid, ValueError) as error:
        raise ForeshardError(f"{where}.access_log.entity_pattern: {error}; write it as RE2 reads it, with one group") from None
