"""Figures that several promises are about."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import psutil


def at_once(spans: Sequence[Any]) -> int:
    """Return the most executions that ran at the same time: there were so many when one of them began."""
    return max(sum(other.started <= span.started < other.ended for other in spans) for span in spans)


def average_at_once(spans: Sequence[Any]) -> float:
    """Return how many executions ran at the same time on average, from the first start to the last end."""
    extent = max(span.ended for span in spans) - min(span.started for span in spans)
    return sum(span.runtime for span in spans) / extent


def slowed(spans: Sequence[Any], seconds: float) -> float:
    """Return how many times longer than `seconds` the median execution took, less the time that others had.

    What other programs, or other slots, do with the processors is left out.
    """
    return median(span.runtime - (span.waited or 0.0) for span in spans) / seconds


def processor_time(pid: int) -> tuple[float, float]:
    """Return the seconds of processor time that a process and its children have used, and the process alone."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    used = [sum(process.cpu_times()[:2]) for process in processes]
    return sum(used), used[0]
