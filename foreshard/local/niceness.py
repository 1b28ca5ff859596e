"""Runs a command at a lower priority: `python -m foreshard.local.niceness NICE COMMAND …`, started in a session of its own.

Linux shares the processor among sessions first and then among the processes of each (autogroup, sched(7)): `nice` alone does
nothing against the servers of another session. So the session is niced too, where the kernel has that.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")


def give_way(nice: int) -> None:
    """Lowers this process, with all that it starts from now on, to `nice` (1 to 19), and its session too if it leads one."""
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    # The session of somebody else, such as a terminal, has more in it than what is to give way.
    if os.getsid(0) == os.getpid() and _AUTOGROUP.exists():
        with suppress(OSError):  # the kernel takes few such changes a second from who is not root: then nice has to do
            _AUTOGROUP.write_text(str(nice), "ascii")


def lowered(command: list[str], nice: int) -> list[str]:
    """The command that runs `command` at `nice`; it is to be started in a session of its own."""
    return [sys.executable, "-m", __name__, str(nice), *command]


def main() -> None:
    give_way(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
