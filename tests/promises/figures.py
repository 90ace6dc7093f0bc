"""Figures that several promises are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil


def at_once(spans: Sequence[Any]) -> int:
    """Return the most executions that ran at the same time: there were so many when one of them began."""
    return max(sum(other.started <= span.started < other.ended for other in spans) for span in spans)


def processor_time(pid: int) -> tuple[float, float]:
    """Return the seconds of processor time that a process and its children have used, and the process alone."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    used = [sum(process.cpu_times()[:2]) for process in processes]
    return sum(used), used[0]
