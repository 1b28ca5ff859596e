"""What the settings may declare of an input, and one sentence for what they may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreshard.errors import ForeshardError
from foreshard.settings import Settings, load, parse
from foreshard.usage.formats.mapping import entity_regex, known_suffix, resolve
from foreshard.usage.records import USAGE

WHOLE = """
[input.usage_record]
format = "csv"
delimiter = ";"
[input.usage_record.columns]
entity_id = "customer"
[input.usage_record.constants]
service_id = "billing"
quantity = 1.5
[input.query_record.access_log]
entity = "host"
"""


def test_a_declared_input_is_resolved_for_its_log_alone(tmp_path: Path) -> None:
    file = tmp_path / "foreshard.toml"
    file.write_text(WHOLE, "utf-8")
    mapping = resolve(USAGE, load(file))
    fields = {field.name: field for field in mapping.fields}
    assert (mapping.format, mapping.delimiter, mapping.is_plain) == ("csv", ";", False)
    assert fields["entity_id"].names == ("customer", "entity_id")
    assert (fields["service_id"].constant, fields["quantity"].constant, fields["revision"].constant) == ("billing", 1.5, None)
    assert resolve(USAGE, Settings()).is_plain
    assert load(file).input.query_record.access_log.entity == "host"


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"format": "xml"}, "input.usage_record.format"),
        ({"delimiter": ";;"}, "input.usage_record.delimiter: must be one ASCII character"),
        ({"delimiter": '"'}, "input.usage_record.delimiter: must be one ASCII character"),
        ({"colums": {}}, "input.usage_record.colums"),
        ({"columns": {"customer": "entity_id"}}, "columns: customer is no field of usage_record; it has entity_id, event_time"),
        ({"constants": {"colour": "red"}}, "constants: colour is no field"),
        ({"constants": {"quantity": "one"}}, "constants.quantity: 'one' is not a number"),
        ({"constants": {"service_id": 5}}, "constants.service_id: 5 is not a text"),
        ({"access_log": {"entity": "user"}}, "input.usage_record.access_log.entity"),
        ({"access_log": {"entity": "virtual_host"}}, "set virtual_host = true"),
        ({"access_log": {"entity_pattern": "("}}, "access_log.entity_pattern: missing )"),
        ({"access_log": {"entity_pattern": "/x"}}, "must have one group, which is the entity, not 0"),
        ({"access_log": {"entity_pattern": "(a)(b)"}}, "must have one group, which is the entity, not 2"),
        ({"access_log": {"entity_pattern": "(a)(?=b)"}}, "write it as RE2 reads it"),
    ],
)
def test_what_cannot_be_is_refused_by_name(declared: dict[str, Any], words: str) -> None:
    with pytest.raises(ForeshardError) as refused:
        resolve(USAGE, parse({"input": {"usage_record": declared}}, "foreshard.toml"))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", ("jsonl", "")),
        ("a.b.json.gz", ("jsonl", "gzip")),
        ("a.NDJSON", ("jsonl", "")),
        ("a.csv.bz2", ("csv", "bz2")),
        ("access.log.zst", ("access_log", "zstd")),
        ("a.csv.lz4", ("csv", "lz4")),
        ("part-0.parquet", ("parquet", "")),
        ("part-0.parquet.gz", ("", "")),
        ("readme.txt", ("", "")),
        ("jsonl", ("", "")),
        ("a.gz", ("", "")),
    ],
)
def test_a_file_is_known_by_its_suffixes(name: str, expected: tuple[str, str]) -> None:
    assert known_suffix(name) == expected


def test_a_declared_format_goes_before_the_suffix_but_other_files_stay_unseen() -> None:
    declared = resolve(USAGE, parse({"input": {"usage_record": {"format": "csv"}}}, "test"))
    assert [declared.format_of(name) for name in ("a.log.gz", "a.csv", "a.txt")] == ["csv", "csv", ""]
    assert [resolve(USAGE, Settings()).format_of(name) for name in ("a.log.gz", "a.csv", "a.txt")] == ["access_log", "csv", ""]


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("^/(a+)", "^/(?P<entity>a+)"),
        (r"\((x)", r"\((?P<entity>x)"),
        ("[(](?:a|b)(c)", "[(](?:a|b)(?P<entity>c)"),
        (r"\\(x)", r"\\(?P<entity>x)"),
    ],
)
def test_the_one_group_is_named(pattern: str, named: str) -> None:
    assert entity_regex(pattern) == named
