"""Settings: defaults, paths relative to the file, and one sentence naming what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.errors import ForeshardError
from foreshard.model import Node
from foreshard.settings import ENVIRONMENT_VARIABLE, load, parse

WHOLE = """
home = "state"
pool_id = "p"
slot_bits = 5
landing = "../landing"
lake = "s3a://bucket/lake"
[operation_cost]
scan = 2.5
[forecast]
grain_minutes = 15
[policy]
min_full_replicas = 3
[[nodes]]
node_id = "a"
capacity = 10
zone = "z1"
"""


def test_a_file_is_read_with_paths_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "foreshard.toml"
    file.parent.mkdir()
    file.write_text(WHOLE, "utf-8")
    settings = load(file)
    assert settings.home == (tmp_path / "conf" / "state").resolve()
    assert settings.landing == str((tmp_path / "landing").resolve())
    assert settings.table("serving/a") == "s3a://bucket/lake/p/serving/a"
    assert settings.landing_folder("usage_record") == f"{settings.landing}/usage_record"
    assert (settings.slots, settings.operation_cost, settings.policy.min_full_replicas) == (32, {"scan": 2.5}, 3)
    assert settings.nodes[0].as_node() == Node("a", 10.0, zone="z1")
    assert settings.path == file.resolve()


def test_the_file_is_named_by_argument_then_variable_then_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    assert load().home == (tmp_path / "var").resolve()
    assert load().lake == str(tmp_path.resolve() / "var" / "lake")
    (tmp_path / "foreshard.toml").write_text('pool_id = "here"', "utf-8")
    assert load().pool_id == "here"
    (tmp_path / "other.toml").write_text('pool_id = "variable"', "utf-8")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "other.toml"))
    assert load().pool_id == "variable"
    assert load(tmp_path / "foreshard.toml").pool_id == "here"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slot_bits = ", "is not valid TOML"),
        ("slot_bit = 3", "slot_bit: Unexpected"),
        ('slot_bits = "many"', "slot_bits: Input should be a valid integer"),
        ("slot_bits = 21", "slot_bits: must be between 0 and 20"),
        ("[forecast]\ngrain_minutes = 7", "grain_minutes: must be"),
        ("[forecast]\ngrain = 7", "forecast.grain: Unexpected"),
        ('[[nodes]]\nnode_id = "a"', "nodes.0.capacity"),
        ('[[nodes]]\nnode_id = "a"\ncapacity = 0', "capacity must be above 0"),
        ('[[nodes]]\nnode_id = "a"\ncapacity = nan', "capacity must be above 0"),
        ('[[nodes]]\nnode_id = "a"\ncapacity = 1\n[[nodes]]\nnode_id = "a"\ncapacity = 1', "same node_id"),
        ("lateness_days = -1", "lateness_days"),
        ("[operation_cost]\nscan = -1", "operation_cost"),
        ('pool_id = ""', "pool_id"),
        ('pool_id = "../x"', "pool_id"),
        ('[[nodes]]\nnode_id = "a/b"\ncapacity = 1', "node_id"),
        ("[forecast]\nhorizon_hours = 0", "horizon_hours"),
        ("[policy]\nmin_full_replicas = 0", "min_full_replicas"),
        ("[capacity]\nquantile = 1", "quantile below 1"),
        ("[capacity]\ntarget_latency_ms = 0", "target latency must be above 0"),
        ("[hot_entities]\nkeep_factor = 1.5", "hot_entities.keep_factor"),
        ("[maintenance]\nvacuum_hours = 1", "maintenance.vacuum_hours: must be at least 24"),
        ("[retention]\nforecast_days = -1", "retention.forecast_days"),
        ("[retention]\nload_days = 30", "retention.load_days: the forecast needs 63"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ForeshardError) as failure:
        load(file)
    assert words in str(failure.value)
    assert str(file) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_file_that_is_named_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ForeshardError, match="does not exist"):
        load(tmp_path / "none.toml")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "none.toml"))
    with pytest.raises(ForeshardError, match="does not exist"):
        load()


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b'pool_id = "\xff"')
    with pytest.raises(ForeshardError, match="is not valid TOML"):
        load(tmp_path / "b.toml")


def test_defaults_hold_where_nothing_is_said() -> None:
    settings = parse({}, "test")
    assert (settings.slot_bits, settings.pool_id, settings.forecast.horizon_hours) == (10, "usage", 24)
