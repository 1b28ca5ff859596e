"""API keys by class: who is let in, and as what; and a keys file that changes under way."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.errors import ForeshardError, Refused
from foreshard.gateway.keys import Keys, NoKey, digest_of, key_in
from foreshard.gateway_settings import ClassSettings, GatewaySettings, check_gateway

GOLD, BRONZE = ClassSettings("gold", keys=(digest_of("golden"),)), ClassSettings("bronze", keys=(digest_of("brazen"),))
SILVER = ClassSettings("silver", keys=(digest_of("silvery"),))
CLASSES = (GOLD, SILVER, BRONZE)


@pytest.mark.parametrize(
    ("key", "asked", "expected"),
    [
        ("golden", None, "gold"),
        ("golden", "gold", "gold"),
        ("golden", "bronze", "bronze"),
        ("silvery", "silver", "silver"),
        ("silvery", "gold", Refused),
        ("brazen", "silver", Refused),
        ("silvery", "platinum", Refused),
        (None, "bronze", NoKey),
        ("", None, NoKey),
        ("golde", None, NoKey),
        (digest_of("golden"), None, NoKey),
        ("golden" * 100, None, NoKey),
        ("g\udcffld", None, NoKey),
    ],
)
def test_a_key_is_for_its_class_and_lower_ones(key: str | None, asked: str | None, expected: str | type[Exception]) -> None:
    keys = Keys(CLASSES)
    if isinstance(expected, str):
        assert keys.class_of(key, asked) == expected
        return
    with pytest.raises(expected) as raised:
        keys.class_of(key, asked)
    assert not key or key not in str(raised.value)


def test_without_keys_everybody_is_believed() -> None:
    assert Keys(()).class_of(None, None) == "standard"
    assert Keys(()).class_of("whatever", "gold") == "gold"
    assert Keys((ClassSettings("gold"), ClassSettings("bronze"))).class_of(None, None) == "bronze"


def test_a_key_is_taken_from_either_header() -> None:
    assert key_in({"x-api-key": "a"}) == "a"
    assert key_in({"authorization": "Bearer a"}) == "a"
    assert key_in({"authorization": "bearer   a"}) == "a"
    assert key_in({"authorization": "Basic a"}) is None
    assert key_in({"authorization": "Bearer "}) is None
    assert key_in({}) is None


def test_a_changed_file_is_followed_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file, clock, told = tmp_path / "keys", [0.0], list[str]()
    file.write_text(f"# who\ngold {digest_of('one')}  # a person\n\n", "utf-8")
    keys = Keys(CLASSES, str(file), told.append, lambda: clock[0])
    assert keys.class_of("one", None) == "gold"
    assert keys.class_of("brazen", None) == "bronze"

    file.write_text(f"silver {digest_of('two')} \n", "utf-8")
    clock[0] += 2
    assert keys.class_of("two", None) == "silver"
    with pytest.raises(NoKey):
        keys.class_of("one", None)

    file.write_text("silver a-key-in-the-clear\n", "utf-8")
    for _ in range(3):
        clock[0] += 2
        assert keys.class_of("two", None) == "silver"
    assert len(told) == 1
    assert "line 1" in told[0]
    assert "in-the-clear" not in told[0]

    file.unlink()
    clock[0] += 2
    assert keys.class_of("two", None) == "silver"


def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("", "utf-8")
    keys = Keys((ClassSettings("gold"),), str(tmp_path / "keys"))
    assert not keys.is_open
    with pytest.raises(NoKey):
        keys.class_of("one", None)
    with pytest.raises(ForeshardError, match="cannot be read"):
        Keys((ClassSettings("gold"),), str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("chosen", "word"),
    [
        (GatewaySettings((GOLD, GOLD)), "same name"),
        (GatewaySettings((ClassSettings("a b"),)), "a b"),
        (GatewaySettings((ClassSettings("a", 1.5),)), "share"),
        (GatewaySettings((ClassSettings("a", 0.6), ClassSettings("b", 0.6))), "more than 1"),
        (GatewaySettings((ClassSettings("a", keys=("secret",)),)), "SHA-256"),
        (GatewaySettings((GOLD, ClassSettings("b", keys=GOLD.keys))), "two places"),
        (GatewaySettings(keys_file="keys"), "keys_file"),
        (GatewaySettings(batch_queries=0), "batch_queries"),
        (GatewaySettings(header_seconds=float("nan")), "header_seconds"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name_and_no_key_is_repeated(chosen: GatewaySettings, word: str) -> None:
    with pytest.raises(ForeshardError, match=word) as raised:
        check_gateway(chosen, "foreshard.toml")
    assert "secret" not in str(raised.value)
