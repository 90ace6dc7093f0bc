"""Throughput by concurrency at the end of a session: a table with bars, and what the scalability law makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_celerypool.report.wrapping import wrapped
from pytest_celerypool.verdict.scaling import Conclusion, Point, averaged, conclude

#: The columns of the longest bar.
_LONGEST_BAR = 32
_INSTALL = "pip install 'pytest-celerypool[sweep]' fits Gunther's scalability law to this: knee and peak"


class Sweeps:
    """The throughputs of a session, by test and pool."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, str], list[Point]] = {}

    def __bool__(self) -> bool:
        return bool(self._points)

    def add(self, test: str, data: Mapping[str, Any]) -> None:
        """Take in what one variant of a test measured.

        :param test: its node id without the axis.
        :param data: of :meth:`Point.data <pytest_celerypool.verdict.scaling.Point.data>`, and ``pool``.
        """
        self._points.setdefault((test, data["pool"]), []).append(Point.of(data))

    def measured(self) -> Iterator[tuple[str, str, list[Point]]]:
        """Yield each test and pool with its points in the order of their slots."""
        for (test, pool), points in sorted(self._points.items(), key=lambda entry: entry[0][0]):
            yield test, pool, averaged(points)

    def lines(self, width: int) -> list[str]:
        """Return the lines of the section.

        :param width: of the terminal, in columns.
        """
        lines: list[str] = []
        for test, pool, points in self.measured():
            lines += wrapped(f"{test} under {pool}", width, "")
            lines += _table(points)
            for text in _told(pool, points):
                lines += wrapped(text, width, "  ")
        return lines


def _table(points: Sequence[Point]) -> Iterator[str]:
    top = max(each.throughput for each in points)
    slots = max(len(str(each.slots)) for each in points)
    figures = [f"{each.throughput:.3g}" if each.throughput < 999.5 else f"{each.throughput:.0f}" for each in points]
    longest = max(map(len, figures))
    for each, figure in zip(points, figures, strict=True):
        bar = "█" * max(1, round(_LONGEST_BAR * each.throughput / top))
        few = "" if each.filled else f"  ({each.executions} executions: too few or too uneven for {each.slots} slots)"
        yield f"  {each.slots:>{slots}}  {figure:>{longest}}  {bar}{few}"


def _told(pool: str, points: Sequence[Point]) -> Iterator[str]:
    """Yield what follows from the points, a sentence each."""
    if len(points) == 1:
        return  # nothing to compare, as under solo
    try:
        conclusion = conclude(points)
    except ImportError:
        yield _INSTALL
        return
    fitted = conclusion.fit
    if fitted is not None:
        yield f"{fitted.law}, off by {fitted.deviation:.0%}, at most {fitted.largest:.0%}"
    if conclusion.why:
        yield f"no conclusion: {conclusion.why}{_more(points)}"
    else:
        yield from _concluded(conclusion, points)


def _concluded(conclusion: Conclusion, points: Sequence[Point]) -> Iterator[str]:
    most = max(each.slots for each in points if each.filled)
    if conclusion.knee is None:
        yield f"knee: not reached up to {most} slots"
    else:
        yield f"knee: {conclusion.knee:.3g} slots, at which the line of one slot, lambda N, reaches the peak of the fit"
    if conclusion.peak is None:
        yield f"slower with still more slots: not up to {most}"
    else:
        yield f"slower with still more slots: beyond {conclusion.peak:.3g}"


def _more(points: Sequence[Point]) -> str:
    """Return how a test gives every slot enough work, if it does not."""
    if all(each.filled for each in points):
        return ""
    return "; send a whole multiple of the slots, such as 10 * celery_pool_worker.concurrency tasks"
