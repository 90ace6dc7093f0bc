"""How throughput grows with the slots of a worker: Gunther's universal scalability law, fitted to what was measured.

    X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1))

N. J. Gunther, Guerrilla Capacity Planning (Springer 2007), chapters 4 to 6, and arXiv:0808.1431. ``lambda`` is the
throughput of one slot, ``sigma`` (0 to 1) the part of the work for which slots wait for each other, ``kappa`` what each
pair of slots costs. Throughput is greatest at ``N* = sqrt((1 - sigma) / kappa)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.measures import throughput

#: Three constants pass through any three points: it takes a fourth to contradict them.
FEWEST_POINTS = 4
#: A fit that is off by more (root of the squared logarithms' sum, divided by the degrees of freedom) is no ground for a
#: conclusion. Measured: tasks that saturate their processors at once, the case that the law describes worst, are off by
#: 0.11, and of random throughputs at six concurrencies one fit in 500 is off by less than this.
LARGEST_DEVIATION = 0.15
#: At least so many executions in each slot: in a single round, publishing takes as long as running.
FEWEST_ROUNDS = 2
#: The part of the slots that have work when equal tasks go in rounds: 50 tasks on 16 slots go in 4 rounds, the last
#: with 2 tasks, and use 0.78 of the slots. Where it is lower, a drop is the test's and not the pool's.
LEAST_FILLED = 0.85
#: The part of the law's greatest throughput that has to lie within what was measured, or its knee is a guess.
REACHED = 0.9
#: By what part the throughput of one test may differ from run to run without a reason: see docs/advice.rst.
NOISE = 0.1


@dataclass(frozen=True)
class Point:
    """The throughput of a test at one concurrency.

    :ivar slots: of the worker.
    :ivar throughput: executions that ended, a second.
    :ivar executions: how many that were.
    """

    slots: int
    throughput: float
    executions: int

    @property
    def filled(self) -> bool:
        """Whether there was enough work for each slot to say something of the slots."""
        rounds = math.ceil(self.executions / self.slots)
        return self.executions >= FEWEST_ROUNDS * self.slots and self.executions >= LEAST_FILLED * rounds * self.slots

    def data(self) -> dict[str, Any]:
        """Return the point as plain data, as :meth:`of` reads it."""
        return {"slots": self.slots, "throughput": self.throughput, "executions": self.executions}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Point:
        """Return the point of plain data."""
        return cls(data["slots"], data["throughput"], data["executions"])


def point(spans: Sequence[Span], slots: int) -> Point | None:
    """Return what a test measured at one concurrency, None if no execution ended in a slot.

    :param spans: the test's.
    :param slots: of its worker.
    """
    measured = throughput(spans)
    ended = sum(span.runtime is not None for span in spans)
    return None if measured is None or slots < 1 else Point(slots, measured, ended)


def averaged(points: Iterable[Point]) -> list[Point]:
    """Return one point for each concurrency, in their order: the median where it was measured several times."""
    by_slots: dict[int, list[Point]] = {}
    for each in points:
        by_slots.setdefault(each.slots, []).append(each)
    return [
        Point(slots, median(each.throughput for each in same), min(each.executions for each in same))
        for slots, same in sorted(by_slots.items())
    ]


@dataclass(frozen=True)
class Law:
    """The law with its three constants: ``rate`` is lambda."""

    rate: float
    sigma: float
    kappa: float

    def throughput(self, slots: float) -> float:
        """Return X(N)."""
        return self.rate * slots / (1 + self.sigma * (slots - 1) + self.kappa * slots * (slots - 1))

    @property
    def peak(self) -> float:
        """N*, at least 1; infinite where nothing makes more slots slower."""
        return max(1.0, math.sqrt((1 - self.sigma) / self.kappa)) if self.kappa > 0 else math.inf

    @property
    def knee(self) -> float:
        """The slots at which the ideal line ``lambda N`` reaches the greatest throughput of the law.

        Below it there are too few slots, above it they wait for each other: there the asymptotic bounds of a closed
        queueing network meet (P. J. Denning and J. P. Buzen, The Operational Analysis of Queueing Network Models,
        Computing Surveys 10(3), 1978). Without ``kappa`` the greatest throughput is the limit ``lambda / sigma``.
        """
        if self.kappa > 0:
            return self.throughput(self.peak) / self.rate
        return 1 / self.sigma if self.sigma > 0 else math.inf

    def __str__(self) -> str:
        return f"X(N) = {self.rate:.3g} N / (1 + {self.sigma:.2g} (N-1) + {self.kappa:.2g} N (N-1))"


@dataclass(frozen=True)
class Fit:
    """The law as it was fitted.

    :ivar deviation: by what part the law is off, typically; :attr:`largest` at most.
    """

    law: Law
    deviation: float
    largest: float

    @property
    def good(self) -> bool:
        """Whether conclusions may be drawn from it."""
        return self.deviation <= LARGEST_DEVIATION


def fit(points: Sequence[Point]) -> Fit | None:
    """Fit the law to throughputs at several concurrencies.

    ``N / X(N)`` is linear in ``(1 - sigma) / lambda``, ``sigma / lambda`` and ``kappa / lambda``, none of which may be
    negative: this is a problem of least squares with one solution, which needs no first guess. Each point weighs by its
    throughput, so that it is the relative error that is least.

    :raises ImportError: scipy is not installed.
    :returns: None if no law fits at all.
    """
    from scipy.optimize import nnls

    rows = [[each.throughput / each.slots, each.throughput, each.throughput * (each.slots - 1)] for each in points]
    (free, shared, paired), _ = nnls(rows, [1.0] * len(rows))
    inverse = float(free + shared)
    if inverse <= 0:
        return None
    law = Law(1 / inverse, float(shared) / inverse, float(paired) / inverse)
    errors = [math.log(law.throughput(each.slots) / each.throughput) for each in points]
    freedom = max(1, len(errors) - 3)
    return Fit(law, math.sqrt(sum(error**2 for error in errors) / freedom), max(map(abs, errors)))


@dataclass(frozen=True)
class Conclusion:
    """What a sweep shows.

    :ivar fit: None where nothing was fitted.
    :ivar why: why nothing is concluded; empty where something is.
    :ivar knee: see :attr:`Law.knee`; None where it was not reached within what was measured.
    :ivar peak: N*, beyond which more slots were measured to be slower; None where they were not.
    """

    fit: Fit | None = None
    why: str = ""
    knee: float | None = None
    peak: float | None = None


def conclude(points: Sequence[Point]) -> Conclusion:
    """Fit the law to the points with enough work, and say what may be concluded within what was measured.

    :param points: as :func:`averaged` returns them.
    :raises ImportError: scipy is not installed.
    """
    used = [each for each in points if each.filled]
    if len(used) < FEWEST_POINTS:
        return Conclusion(why=f"{_count(len(used))} with enough work, and the fit of the law takes {FEWEST_POINTS}")
    fitted = fit(used)
    if fitted is None:
        return Conclusion(why="the law fits nothing like this")
    if not fitted.good:
        return Conclusion(
            fitted, why=f"the fit is off by {fitted.deviation:.0%}, too much to conclude anything from it"
        )
    most = used[-1].slots
    knee, peak = fitted.law.knee, fitted.law.peak
    return Conclusion(
        fitted,
        knee=knee if fitted.law.throughput(min(most, peak)) >= REACHED * fitted.law.rate * knee else None,
        peak=peak if peak < most and _drops(used, fitted) else None,
    )


def _drops(points: Sequence[Point], fitted: Fit) -> bool:
    """Whether the throughput that was measured last lies below the best one by more than the fit is off.

    Where processors saturate at once the law, which has no corner, bends down behind it though nothing was slower.
    """
    best = max(each.throughput for each in points)
    return points[-1].throughput < best * math.exp(-fitted.deviation)


def best(points: Sequence[Point]) -> Point | None:
    """Return the fewest slots whose measured throughput is as good as the best, but for what measures vary by.

    :param points: as :func:`averaged` returns them.
    """
    top = max((each.throughput for each in points), default=0.0)
    return next((each for each in points if each.throughput >= top * (1 - NOISE)), None)


def _count(number: int) -> str:
    return "1 concurrency" if number == 1 else f"{number or 'no'} concurrencies"
