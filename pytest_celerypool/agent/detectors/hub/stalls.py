"""What else may have stopped the hub's thread while nobody could look: the machine, not the task.

C code that waits with the interpreter's lock lets no other thread look at it. Neither does a machine that stands still
(its hypervisor gives the processors to others), nor a page of memory that has to be read from the disk while Python's
own code runs. The first is told from the others by what the system counts: the thread that looks asks for the lock
every few milliseconds and so is switched to again and again, no page is missing, and no processor time was stolen.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from typing import NamedTuple

from pytest_celerypool.agent import originals

#: A thread that waits for the interpreter's lock must have asked for it at this share of the times when it should have.
_SHARE = 0.2

_SWITCHES = re.compile(rb"^voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

#: Bytes of a file that are read.
_MOST = 4096

#: Seconds: what the machine did is read again after them, as it takes longer than the rest of a look. What is older
#: excuses more holds, never fewer.
_MACHINE_S = 0.25


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


class Counters:
    """Reads the counts, from files that it keeps open: whoever looks at the descriptors of the process sees no others.

    Nothing here gives up the interpreter's lock: to get it back the thread that looks would have to stop that of the
    hub, each time for as long as it takes to wake a thread.

    :param looking: the number that the system has given the thread that looks.
    :param hub: that of the hub's thread.
    """

    def __init__(self, looking: int, hub: int) -> None:
        self._files: list[int] = []
        self._machine, self._machine_at = (0, 0.0), float("-inf")
        try:
            for path in (f"/proc/self/task/{looking}/status", f"/proc/self/task/{hub}/stat", "/proc/stat"):
                self._files.append(originals.open_file(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:  # not Linux, or /proc is hidden
            self.close()

    def look(self) -> Counts | None:
        """Return what the thread that looks, which calls this, has to know later; ``None`` where nothing is told."""
        if not self._files:
            return None
        now = time.monotonic()
        if now - self._machine_at >= _MACHINE_S:
            machine = self._of_machine()
            if machine is None:
                return None
            self._machine, self._machine_at = machine, now
        return Counts(now, resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw, *self._machine)

    def read(self) -> Counts | None:
        """Return what the system has counted so far, in any thread; ``None`` where it does not tell."""
        machine = self._of_machine()
        if machine is None:
            return None
        try:
            switches = _SWITCHES.search(originals.read_held(self._files[0], _MOST))
        except OSError:
            return None
        return None if switches is None else Counts(time.monotonic(), int(switches[1]), *machine)

    def _of_machine(self) -> tuple[int, float] | None:
        """Return faults and stolen seconds."""
        try:
            stat, machine = (originals.read_held(fd, _MOST) for fd in self._files[1:])
            # The 12th of its fields; the second, the name, may contain anything: proc_pid_stat(5).
            faults = int(stat.rpartition(b")")[2].split()[9])
            return faults, int(machine.split(b"\n", 1)[0].split()[8]) / _TICKS_PER_S
        except (OSError, IndexError, ValueError):
            return None

    def close(self) -> None:
        """Close the files; from then on nothing is told."""
        files, self._files = self._files, []
        for fd in files:
            os.close(fd)


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
