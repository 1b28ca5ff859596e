"""Settings: one TOML file, read once, handed down as a frozen dataclass.

The file is named by `--settings` or the environment variable FORESHARD_SETTINGS; without either, `foreshard.toml` in the
current folder is read if it exists, and the defaults below hold otherwise. Relative paths are relative to the file's folder.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from foreshard.errors import ForeshardError
from foreshard.gateway_settings import GatewaySettings, check_gateway
from foreshard.input_settings import InputsSettings, check_inputs
from foreshard.model import Node, Policy
from foreshard.nodes.provisioner_settings import ProvisionerSettings, WatchSettings, check_nodes
from foreshard.transition_settings import TransitionSettings, check_transition
from foreshard.upkeep.upkeep_settings import CheckSettings, MaintenanceSettings, RetentionSettings

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
    """How loads are forecast. `country` (ISO 3166 code, `US` or `US-CA`) adds its holidays; empty adds none. `zone` is where
    the users are: holidays last from midnight to midnight there. `events`: a CSV file of campaigns and launches. `families`:
    the families of models to use, by name; empty: all that are cheap. A costlier one is tried on the `costly_shards` with the
    most load."""

    __pydantic_config__ = _STRICT

    grain_minutes: int = 60
    horizon_hours: int = 24
    history_days: int = 56
    country: str = ""
    seed: int = 0
    zone: str = "UTC"
    events: str = ""
    families: tuple[str, ...] = ()
    costly_shards: int = 16


@dataclass(frozen=True)
class SparkSettings:
    """`master` serves jobs started without spark-submit; under spark-submit and Airflow the submitter's master holds."""

    __pydantic_config__ = _STRICT

    master: str = "local[*]"
    driver_memory: str = "1g"
    driver_java_options: str = ""  # more options for the driver's JVM
    shuffle_partitions: int = 4


@dataclass(frozen=True)
class CapacitySettings:
    """What `foreshard capacity` asks: the load at which a node's latency quantile reaches the target."""

    __pydantic_config__ = _STRICT

    target_latency_ms: float = 200.0
    quantile: float = 0.95


@dataclass(frozen=True)
class HotEntitySettings:
    """When an entity deserves a shard of its own: its p95 load over the window is at least `slot_share` of its slot's and
    `node_share` of what a mean node may carry, and it was so in at least `hours` of the window. One that has a shard of its
    own keeps it down to `keep_factor` of these bounds."""

    __pydantic_config__ = _STRICT

    window_hours: int = 24
    slot_share: float = 0.5
    node_share: float = 0.2
    hours: int = 3
    keep_factor: float = 0.6


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
    # A record that comes again keeps its event time to within this: only so far back are the records compared.
    repeat_reach_hours: int = 24
    future_tolerance_minutes: int = 60
    operation_cost: dict[str, float] = field(default_factory=dict)  # 1 for what is not listed
    age: AgeBounds = field(default_factory=AgeBounds)
    forecast: ForecastSettings = field(default_factory=ForecastSettings)
    spark: SparkSettings = field(default_factory=SparkSettings)
    input: InputsSettings = field(default_factory=InputsSettings)
    nodes: tuple[NodeSettings, ...] = ()
    policy: Policy = field(default_factory=Policy)
    capacity: CapacitySettings = field(default_factory=CapacitySettings)
    hot_entities: HotEntitySettings = field(default_factory=HotEntitySettings)
    maintenance: MaintenanceSettings = field(default_factory=MaintenanceSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    checks: CheckSettings = field(default_factory=CheckSettings)
    transition: TransitionSettings = field(default_factory=TransitionSettings)
    provisioner: ProvisionerSettings = field(default_factory=ProvisionerSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
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


def check_name(where: str, name: str) -> None:
    """Raises ForeshardError, beginning with `where`, unless the name can be a part of a path and of a lease's name."""
    if not _NAME.fullmatch(name):
        raise ForeshardError(f"{where}: {name!r} must be letters, digits, '_', '-' or '.', and not begin with '.'")


def _check(settings: Settings, origin: str) -> None:
    names = [n.node_id for n in settings.nodes]
    if len(set(names)) != len(names):
        raise ForeshardError(f"{origin}: nodes: two nodes have the same node_id")
    # They are parts of paths and of lease names.
    for field_name, name in [("pool_id", settings.pool_id), *(("node_id", name) for name in names)]:
        check_name(f"{origin}: {field_name}", name)
    for node in settings.nodes:
        if not 0 < node.capacity < math.inf:
            raise ForeshardError(f"{origin}: nodes: {node.node_id}: capacity must be above 0, not {node.capacity}")
    if not 0 <= settings.slot_bits <= 20:
        raise ForeshardError(f"{origin}: slot_bits: must be between 0 and 20, not {settings.slot_bits}")
    if settings.forecast.grain_minutes not in (1, 5, 15, 60):
        raise ForeshardError(f"{origin}: forecast.grain_minutes: must be 1, 5, 15 or 60")
    _check_lowest(settings, origin)
    _check_upkeep(settings, origin)
    check_transition(settings.transition, origin)
    check_nodes(settings.provisioner, settings.watch, origin)
    check_inputs(settings.input, origin)
    check_gateway(settings.gateway, origin)


def _check_upkeep(settings: Settings, origin: str) -> None:
    """Maintenance must not take what the forecast reads, nor what a running job has written and not committed yet."""
    hot, kept = settings.hot_entities, settings.retention
    between = [
        ("capacity.quantile", settings.capacity.quantile),
        ("hot_entities.slot_share", hot.slot_share),
        ("hot_entities.node_share", hot.node_share),
        ("hot_entities.keep_factor", hot.keep_factor),
    ]
    for name, value in between:
        if not 0 < value <= 1:
            raise ForeshardError(f"{origin}: {name}: must be above 0 and at most 1, not {value}")
    if settings.capacity.quantile == 1 or not 0 < settings.capacity.target_latency_ms < math.inf:
        raise ForeshardError(f"{origin}: capacity: the target latency must be above 0 and the quantile below 1")
    if kept.load_days and kept.load_days < settings.forecast.history_days + settings.lateness_days:
        least = settings.forecast.history_days + settings.lateness_days
        raise ForeshardError(f"{origin}: retention.load_days: the forecast needs {least}; or 0, which keeps all")


def _check_lowest(settings: Settings, origin: str) -> None:
    lowest = [
        ("lateness_days", settings.lateness_days, 0),
        ("repeat_reach_hours", settings.repeat_reach_hours, 0),
        ("future_tolerance_minutes", settings.future_tolerance_minutes, 0),
        ("heavy_hitters", settings.heavy_hitters, 0),
        ("checks.kept_runs", settings.checks.kept_runs, 1),
        ("forecast.horizon_hours", settings.forecast.horizon_hours, 1),
        ("forecast.history_days", settings.forecast.history_days, 1),
        ("forecast.costly_shards", settings.forecast.costly_shards, 0),
        ("policy.min_full_replicas", settings.policy.min_full_replicas, 1),
        ("hot_entities.window_hours", settings.hot_entities.window_hours, 1),
        ("hot_entities.hours", settings.hot_entities.hours, 1),
        ("maintenance.small_file_mb", settings.maintenance.small_file_mb, 1),
        ("maintenance.small_files", settings.maintenance.small_files, 1),
        ("maintenance.compact_gb", settings.maintenance.compact_gb, 0),
        ("maintenance.vacuum_hours", settings.maintenance.vacuum_hours, 24),
        ("maintenance.log_days", settings.maintenance.log_days, 1),
        ("maintenance.lease_wait_seconds", settings.maintenance.lease_wait_seconds, 0),
        *((f"transition.{n}", v, 0) for n, v in asdict(settings.transition).items() if n != "cut_over"),
        ("transition.attempts", settings.transition.attempts, 1),
        *((f"retention.{name}", days, 0) for name, days in asdict(settings.retention).items()),
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

    events = settings.forecast.events and str((base / settings.forecast.events).resolve())
    forecast = replace(settings.forecast, events=events)
    secret = settings.provisioner.secret_file
    provisioner = replace(settings.provisioner, secret_file=secret and str((base / secret).resolve()))
    keys = settings.gateway.keys_file
    gateway = replace(settings.gateway, keys_file=keys and str((base / keys).resolve()))
    lake, landing = rooted(settings.lake, "lake"), rooted(settings.landing, "landing")
    changed = replace(settings, forecast=forecast, provisioner=provisioner, gateway=gateway)
    return replace(changed, home=home, lake=lake, landing=landing, path=file)
