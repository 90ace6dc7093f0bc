"""Tell which processes belong to one worker of prefork: its main process, its children, and their fork servers.

A child that comes from a fork server (:mod:`pytest_celerypool.agent.forkserver`) is not a child of the worker's main
process, as :func:`os.getppid` would have it, and a fork server runs no task: it only has what it inherited.
"""

from __future__ import annotations

import os

#: What the system calls a fork server (``ps -o comm``); Linux keeps fifteen characters.
NAME = "celerypool-fork"

_main: int | None = None


def come_from(main: int) -> None:
    """Say in a fork server, and so in its children, what the process id of the worker's main process is."""
    global _main
    _main = main


def main_pid() -> int:
    """Return in a child the process id of the worker's main process."""
    return os.getppid() if _main is None else _main


def members() -> list[int]:
    """Return in a child the process ids of the worker's main process and its children, without fork servers.

    :raises OSError: the system does not tell.
    """
    found = [main_pid()]
    for pid in _children(found[0]):
        found += _children(pid) if _is_server(pid) else [pid]
    return found


def rename(name: str) -> str:
    """Give this process a name for the system's lists; returns the one before, and does nothing where there is none."""
    try:
        with open("/proc/self/comm", "r+") as file:
            before = file.read().strip()
            file.write(name)
    except OSError:
        return ""
    return before


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):  # a child is listed under the thread that forked it
        with open(f"/proc/{pid}/task/{thread}/children") as file:
            found += map(int, file.read().split())
    return found


def _is_server(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip() == NAME
    except OSError:  # it has ended
        return False
