"""Jobs run as spark-submit would run them by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshard.errors import ForeshardError
from foreshard.local.submit import submit
from foreshard.settings import Settings

pytestmark = pytest.mark.spark


def test_a_job_that_fails_is_told_of_in_its_own_words(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, lake=str(tmp_path), path=tmp_path / "nowhere.toml")
    with pytest.raises(ForeshardError, match=r"^follow_source: settings file \S+nowhere.toml does not exist"):
        submit(settings, "follow_source", [])
