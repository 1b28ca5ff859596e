"""Workers have one thread each, and somewhere to keep what is compiled, wherever the package comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from foreshard.lake.workers import environment
from foreshard.local.spark import package_archive
from foreshard.settings import Settings


def test_workers_have_one_thread_each(tmp_path: Path) -> None:
    made = environment(Settings(home=tmp_path))
    assert {made[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")} == {"1"}
    assert "XDG_CACHE_HOME" not in made, "on this machine caches stay where they are"


def test_a_package_in_an_archive_is_compiled_for_a_user_without_a_home(tmp_path: Path) -> None:
    archive = package_archive(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    call = "spar._left_out(np.eye(2), np.ones(2), np.ones(2), np.zeros(2))"
    code = f"import numpy as np; from foreshard.forecast import spar; {call}; print(spar.__file__)"
    # The user's home is a file: nothing can be made in it.
    home = tmp_path / "home"
    home.touch()
    variables = {
        **os.environ,
        **environment(Settings(home=tmp_path), is_local=False),
        "PYTHONPATH": str(archive),
        "HOME": str(home),
    }
    done = subprocess.run([sys.executable, "-c", code], env=variables, cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(archive))
    assert list((work / ".cache").rglob("*_left_out*.nbi")), "the next task need not compile it"
