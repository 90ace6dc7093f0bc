"""What else may have stopped the hub's thread while nobody could look: the machine, not the task.

C code that waits with the interpreter's lock lets no other thread look at it. Neither does a machine that stands still
(its hypervisor gives the processors to others), nor a page of memory that has to be read from the disk while Python's
own code runs. The first is told from the others by what the system counts: the thread that looks asks for the lock
every few milliseconds and so is switched to again and again, no page is missing, and no processor time was stolen.
"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import NamedTuple

from pytest_celerypool.agent import originals

#: A thread that waits for the interpreter's lock must have asked for it at this share of the times when it should have.
_SHARE = 0.2

_SWITCHES = re.compile(rb"^voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Counts(NamedTuple):
    """What the system has counted so far.

    :ivar at: monotonic seconds.
    :ivar switches: how often the thread that looks has given up its processor by itself.
    :ivar faults: pages that the hub's thread has waited for, as they had to be read from a disk.
    :ivar stolen: seconds in which a hypervisor gave processors of this machine to others, all of them together.
    """

    at: float
    switches: int
    faults: int
    stolen: float


def counts(looking: int, hub: int) -> Counts | None:
    """Read them, ``None`` where the system does not tell (other than Linux).

    :param looking: the number that the system has given the thread that looks.
    :param hub: that of the hub's thread.
    """
    try:
        switches = _SWITCHES.search(_read(f"/proc/self/task/{looking}/status"))
        # The 12th of its fields; the second, the name, may contain anything: proc_pid_stat(5).
        faults = _read(f"/proc/self/task/{hub}/stat").rpartition(b")")[2].split()[9]
        stolen = _read("/proc/stat", 256).split(b"\n", 1)[0].split()[8]
    except (OSError, IndexError):
        return None
    if switches is None:
        return None
    return Counts(time.monotonic(), int(switches[1]), int(faults), int(stolen) / _TICKS_PER_S)


def is_of_the_machine(before: Counts | None, now: Counts | None, held: float) -> bool:
    """Whether a hold that nobody saw may be that of the machine.

    :param before: the counts when the thread that looks did so last.
    :param now: those at the end of the hold.
    :param held: the seconds of the hold.
    """
    if before is None or now is None:
        return False
    asked = now.switches - before.switches
    expected = min(held, now.at - before.at) / sys.getswitchinterval()
    return asked < expected * _SHARE or now.faults > before.faults or now.stolen - before.stolen > held / 4


def _read(path: str, most: int = 4096) -> bytes:
    fd = originals.open_file(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return originals.read_at(fd, most, 0)
    finally:
        os.close(fd)
