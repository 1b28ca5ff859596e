from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from foreshard.errors import ForeshardError, Refused
from foreshard.gateway import tokens

SECRET = bytes(range(32))


@given(file_name=st.text(max_size=200))
def test_a_token_names_its_file_and_is_safe_in_an_address(file_name: str) -> None:
    token = tokens.issue(SECRET, "usage", file_name)
    assert tokens.read(SECRET, token, "usage") == file_name
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


@given(at=st.integers(0, 200), replacement=st.sampled_from("AZaz09-_.=+ é"))
def test_a_token_with_any_character_changed_is_refused(at: int, replacement: str) -> None:
    token = tokens.issue(SECRET, "usage", "2013-11-28T05/file.jsonl")
    at %= len(token)
    assume(token[at] != replacement)
    with pytest.raises(Refused):
        tokens.read(SECRET, token[:at] + replacement + token[at + 1 :], "usage")


@given(text=st.text(max_size=300))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        tokens.read(SECRET, text, "usage")


def test_a_token_of_another_secret_or_pool_is_refused() -> None:
    with pytest.raises(Refused, match="signature"):
        tokens.read(SECRET, tokens.issue(b"x" * 32, "usage", "f"), "usage")
    with pytest.raises(Refused, match="pool other"):
        tokens.read(SECRET, tokens.issue(SECRET, "other", "f"), "usage")


def test_the_secret_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    first = tokens.load_secret(tmp_path / "home")
    path = tmp_path / "home" / tokens.SECRET_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert tokens.load_secret(tmp_path / "home") == first
    assert [p.name for p in path.parent.iterdir()] == [tokens.SECRET_FILE]


def test_a_cut_off_secret_is_not_used(tmp_path: Path) -> None:
    (tmp_path / tokens.SECRET_FILE).write_bytes(b"short")
    with pytest.raises(ForeshardError, match="shorter"):
        tokens.load_secret(tmp_path)
