"""Settings: one TOML file, read once, handed down as a frozen dataclass.

The file is named by `--settings` or the environment variable FORESHARD_SETTINGS; without either, `foreshard.toml` in the
current folder is read if it exists, and the defaults below hold otherwise. Relative paths are relative to the file's folder.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from foreshard.errors import ForeshardError
from foreshard.model import Node, Policy

ENVIRONMENT_VARIABLE = "FORESHARD_SETTINGS"
_STRICT = ConfigDict(extra="forbid")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class NodeSettings:
    """A node declared by its owner; `capacity` in weighted requests per second at the target latency."""

    __pydantic_config__ = _STRICT

    node_id: str
    capacity: float
    url: str = ""
    zone: str = ""

    def as_node(self) -> Node:
        return Node(self.node_id, self.capacity, url=self.url, zone=self.zone)


@dataclass(frozen=True)
class AgeBounds:
    """A query is `recent` if it asks for nothing older than `recent_days`, `months` within `months_days`, else `older`."""

    __pydantic_config__ = _STRICT

    recent_days: int = 7
    months_days: int = 90


@dataclass(frozen=True)
class ForecastSettings:
    """How loads are forecast. `country` (ISO 3166 code) adds its holidays; empty adds none."""

    __pydantic_config__ = _STRICT

    grain_minutes: int = 60
    horizon_hours: int = 24
    history_days: int = 56
    country: str = ""
    seed: int = 0


@dataclass(frozen=True)
class SparkSettings:
    """`master` serves jobs started without spark-submit; under spark-submit and Airflow the submitter's master holds."""

    __pydantic_config__ = _STRICT

    master: str = "local[*]"
    driver_memory: str = "1g"
    driver_java_options: str = ""  # more options for the driver's JVM
    shuffle_partitions: int = 4


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured; see the README for a commented file."""

    __pydantic_config__ = _STRICT

    home: Path = Path("var")
    postgres_url: str = ""  # empty: the embedded server under home/postgres
    lake: str = ""  # root of the Delta tables, a path or an object store URI; empty: home/lake
    landing: str = ""  # root of the landing folders; empty: home/landing
    pool_id: str = "usage"
    slot_bits: int = 10
    # Distinct entities kept apart per slot and interval in query_load; the rest is one row.
    heavy_hitters: int = 8
    lateness_days: int = 7
    future_tolerance_minutes: int = 60
    operation_cost: dict[str, float] = field(default_factory=dict)  # 1 for what is not listed
    age: AgeBounds = field(default_factory=AgeBounds)
    forecast: ForecastSettings = field(default_factory=ForecastSettings)
    spark: SparkSettings = field(default_factory=SparkSettings)
    nodes: tuple[NodeSettings, ...] = ()
    policy: Policy = field(default_factory=Policy)
    path: Path | None = None  # where these settings were read from

    def table(self, name: str) -> str:
        """Root of a Delta table, for example `table("usage_hourly")` or `table("serving/pipeline-a")`."""
        return f"{self.lake}/{self.pool_id}/{name}"

    def landing_folder(self, table: str) -> str:
        return f"{self.landing}/{table}"

    @property
    def slots(self) -> int:
        return 1 << self.slot_bits


def load(path: str | Path | None = None) -> Settings:
    """Reads and checks the settings; raises ForeshardError naming the file, the field and the reason."""
    chosen = path or os.environ.get(ENVIRONMENT_VARIABLE)
    file = Path(chosen) if chosen else Path("foreshard.toml")
    if not file.exists():
        if chosen:
            raise ForeshardError(f"settings file {file} does not exist; write it or unset {ENVIRONMENT_VARIABLE}")
        return _complete(Settings(), Path.cwd(), None)
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ForeshardError(f"settings file {file} is not valid TOML: {error}") from None
    return _complete(parse(raw, str(file)), file.resolve().parent, file.resolve())


def parse(raw: dict[str, object], origin: str) -> Settings:
    """Settings from parsed TOML; unknown and ill-typed fields are refused by name."""
    try:
        settings = TypeAdapter(Settings).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ForeshardError(f"{origin}: {where}: {first['msg']}") from None
    _check(settings, origin)
    return settings


def _check(settings: Settings, origin: str) -> None:
    names = [n.node_id for n in settings.nodes]
    if len(set(names)) != len(names):
        raise ForeshardError(f"{origin}: nodes: two nodes have the same node_id")
    # They are parts of paths and of lease names.
    for field_name, name in [("pool_id", settings.pool_id), *(("node_id", name) for name in names)]:
        if not _NAME.fullmatch(name):
            raise ForeshardError(
                f"{origin}: {field_name}: {name!r} must be letters, digits, '_', '-' or '.', and not begin with '.'"
            )
    for node in settings.nodes:
        if not 0 < node.capacity < math.inf:
            raise ForeshardError(f"{origin}: nodes: {node.node_id}: capacity must be above 0, not {node.capacity}")
    if not 0 <= settings.slot_bits <= 20:
        raise ForeshardError(f"{origin}: slot_bits: must be between 0 and 20, not {settings.slot_bits}")
    if settings.forecast.grain_minutes not in (1, 5, 15, 60):
        raise ForeshardError(f"{origin}: forecast.grain_minutes: must be 1, 5, 15 or 60")
    _check_lowest(settings, origin)


def _check_lowest(settings: Settings, origin: str) -> None:
    lowest = [
        ("lateness_days", settings.lateness_days, 0),
        ("future_tolerance_minutes", settings.future_tolerance_minutes, 0),
        ("heavy_hitters", settings.heavy_hitters, 0),
        ("forecast.horizon_hours", settings.forecast.horizon_hours, 1),
        ("forecast.history_days", settings.forecast.history_days, 1),
        ("policy.min_full_replicas", settings.policy.min_full_replicas, 1),
        *((f"operation_cost.{name}", cost, 0) for name, cost in settings.operation_cost.items()),
    ]
    for name, value, least in lowest:
        if not least <= value < math.inf:
            raise ForeshardError(f"{origin}: {name}: must be at least {least}, not {value}")


def _complete(settings: Settings, base: Path, file: Path | None) -> Settings:
    home = (base / settings.home).resolve()

    def rooted(value: str, default: str) -> str:
        if not value:
            return str(home / default)
        return value if "://" in value else str((base / value).resolve())

    return replace(
        settings, home=home, lake=rooted(settings.lake, "lake"), landing=rooted(settings.landing, "landing"), path=file
    )
