"""The `[input]` part of the settings: how each log's landing files are read. Light, for the tasks that read them import it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from foreshard.errors import ForeshardError

if TYPE_CHECKING:
    from pydantic import ConfigDict

_STRICT: ConfigDict = {"extra": "forbid"}


@dataclass(frozen=True)
class AccessLogSettings:
    """What a line of a web access log says; the method is the operation.

    `entity` is the path, the client's host or the virtual host. `entity_pattern`, a regular expression (RE2) with one
    group, cuts the entity out of it; the path is given to it with its query string. With `virtual_host`, each line begins
    with the name of the virtual host (Apache's vhost_combined), which is the service unless a constant is declared.
    `quantity` of a usage record is 1 a request, or the bytes of the answer.
    """

    __pydantic_config__ = _STRICT

    entity: Literal["path", "host", "virtual_host"] = "path"
    entity_pattern: str = ""
    virtual_host: bool = False
    quantity: Literal["requests", "bytes"] = "requests"


@dataclass(frozen=True)
class InputSettings:
    """How the landing files of one table are read; docs/input-formats.md has examples.

    `format` is by each file's suffix if it is empty. `columns` has the name in the file for each field that is named
    differently there, `constants` a value for each field that the file does not have.
    """

    __pydantic_config__ = _STRICT

    format: Literal["", "jsonl", "csv", "parquet", "access_log"] = ""
    delimiter: str = ","
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str | int | float] = field(default_factory=dict)
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)


@dataclass(frozen=True)
class InputsSettings:
    """The input of each of the two logs."""

    __pydantic_config__ = _STRICT

    usage_record: InputSettings = field(default_factory=InputSettings)
    query_record: InputSettings = field(default_factory=InputSettings)


def check_inputs(inputs: InputsSettings, origin: str) -> None:
    """Raises ForeshardError for what cannot be read by, naming the field."""
    _check(inputs.usage_record, f"{origin}: input.usage_record")
    _check(inputs.query_record, f"{origin}: input.query_record")


def _check(read: InputSettings, where: str) -> None:
    if len(read.delimiter) != 1 or not read.delimiter.isascii() or read.delimiter in '"\r\n':
        raise ForeshardError(f"{where}.delimiter: must be one ASCII character other than a quote, not {read.delimiter!r}")
    log = read.access_log
    try:
        groups = re.compile(log.entity_pattern).groups
    except re.error as error:
        raise ForeshardError(f"{where}.access_log.entity_pattern: {error}") from None
    if log.entity_pattern and groups != 1:
        raise ForeshardError(f"{where}.access_log.entity_pattern: must have one group, which is the entity, not {groups}")
    if log.entity == "virtual_host" and not log.virtual_host:
        raise ForeshardError(f"{where}.access_log.entity: set virtual_host = true, so that lines begin with the virtual host")
