"""Compare what executions took on two sides, of which one may be worse by chance: two runs, or two pools.

Nothing is known of the executions but how long each took. Those of one test are not all alike: it may call its task
with much work and with little. So each is compared with the one at the same place in the order of the other side, and
what decides are the executions of about the size that the statistic picks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: What one execution alone may be worse by chance, in seconds and as a part of its figure, of which the greater counts;
#: of k that are alike it is this divided by the square root of k. Measured as what separates runs of one suite on two
#: processors for which 25 to 30 threads were ready (docs/baseline.rst has the figures): with less for ``cpu`` and
#: ``hold`` chance is called worse there, with more for ``runtime`` what doubled is missed.
NOISE_S = {"runtime": 0.005, "cpu": 0.005, "hold": 0.005, "queued": 0.05, "total": 0.05, "makespan": 0.05}
NOISE = 0.5
#: Executions whose figures differ by less than this factor are alike.
_ALIKE = 1.5
#: How many of them have to be worse.
_MOST = 0.75
#: How sure a bound of a percentile is.
_CONFIDENCE = 0.95
#: How many figures of one task in one test are kept.
LARGEST_SAMPLE = 100

Verdict = Literal["within", "worse", "unclear"]


@dataclass(frozen=True)
class Comparison:
    """A statistic on two sides.

    :ivar before: of the side that is compared with, :attr:`after` of the side that is judged.
    :ivar limit: what it may be at most.
    :ivar verdict: ``"unclear"`` is above the limit by no more than chance can do.
    :ivar enough: how many executions like these would tell; 0 where more would not help.
    """

    before: float
    after: float
    limit: float
    verdict: Verdict
    enough: int = 0

    @property
    def ratio(self) -> float:
        """How many times as much it is."""
        return self.after / self.before if self.before > 0 else math.inf if self.after > 0 else 1.0


def thinned(values: Sequence[float]) -> list[float]:
    """Return at most :data:`LARGEST_SAMPLE` figures in order, evenly spread over all of them, both ends included."""
    ordered = sorted(values)
    if len(ordered) <= LARGEST_SAMPLE:
        return ordered
    step = (len(ordered) - 1) / (LARGEST_SAMPLE - 1)
    return [ordered[round(number * step)] for number in range(LARGEST_SAMPLE)]


def statistic(ordered: Sequence[float], percentile: float) -> float:
    """Return the figure at the nearest rank: the smallest that at least `percentile` per cent do not exceed."""
    return ordered[_rank(len(ordered), percentile) - 1]


def needed(percentile: float) -> int:
    """Return how many executions it takes until a percentile is not just their maximum."""
    return 1 if percentile >= 100 else math.ceil(round(100 / (100 - percentile), 9))


def compare(
    before: Sequence[float],
    after: Sequence[float],
    percentile: float,
    factor: float,
    noise: float,
    *,
    same: float = 1.0,
    made_of: int = 1,
) -> Comparison:
    """Judge whether `after` is worse than `before`: higher by more than `factor`, and not by chance.

    It is where the statistic is above its limit and, by more than the noise of so many executions, above the other
    side's, and either three quarters of the executions alike are above their own limits, or, where there are enough for
    the percentile, more are above the upper bound of the other side's than chance puts there. The bounds are those of
    order statistics, free of any assumption on the distribution (David and Nagaraja, Order Statistics, 2003, 7.1).

    :param before: of the executions of the side that is compared with, at least one.
    :param after: of the side that is judged.
    :param percentile: 100 is the maximum.
    :param factor: how many times as much it may be.
    :param noise: by how much one execution alone may be worse by chance, in the unit of the figures.
    :param same: how many times as much it is where nothing is wrong; chance is reckoned from there.
    :param made_of: of how many executions each figure is made.
    """
    before, after = sorted(before), sorted(after)
    was, now = statistic(before, percentile), statistic(after, percentile)
    limit = was * factor
    if now <= limit:
        return Comparison(was, now, limit, "within")
    usual = was * same
    alone = max(noise, NOISE * usual) / math.sqrt(made_of)
    alike = [
        (figure, statistic(after, 100 * (number + 0.5) / len(before)))
        for number, figure in enumerate(before)
        if was / _ALIKE <= figure <= was * _ALIKE
    ]
    worse = sum(other > figure * factor for figure, other in alike)
    bulk = worse >= _MOST * len(alike) and now > usual + alone / math.sqrt(min(len(alike), len(after)))
    if bulk or _tail(before, after, percentile, factor, usual, alone):
        return Comparison(was, now, limit, "worse")
    enough = math.ceil((alone / (now - usual)) ** 2) if now > usual else 0
    return Comparison(was, now, limit, "unclear", max(enough, needed(percentile)))


def _tail(
    before: Sequence[float], after: Sequence[float], percentile: float, factor: float, usual: float, alone: float
) -> bool:
    """Return whether too many executions are above what the percentile may be; few executions cannot tell."""
    if not min(len(before), len(after)) >= needed(percentile) > 1:
        return False
    bound = before[_upper_rank(len(before), percentile) - 1] * factor
    above = [figure for figure in after if figure > bound]
    if not above or min(above) <= usual + alone / math.sqrt(len(above)):
        return False
    return _at_least(len(above), len(after), 1 - percentile / 100) <= 1 - _CONFIDENCE


def interval(ordered: Sequence[float], percentile: float) -> tuple[float, float]:
    """Return the figures between which the true percentile lies, each bound sure to 95 %; infinite where none is.

    They are bounds of order statistics, as in :func:`compare`.

    :param ordered: the figures, the smallest first.
    """
    count = len(ordered)
    tails = _tails(count, percentile / 100)
    low = max((rank for rank in range(1, count + 1) if tails[rank] >= _CONFIDENCE), default=1)
    upper = next((rank for rank in range(1, count + 1) if tails[rank] <= 1 - _CONFIDENCE), None)
    return ordered[low - 1], math.inf if upper is None else ordered[upper - 1]


def sample_size(percentile: float) -> int:
    """Return of how many executions the largest is above their true percentile, sure to 95 %: with fewer none is."""
    part = percentile / 100
    return 1 if part >= 1 else math.ceil(math.log(1 - _CONFIDENCE) / math.log(part))


def _rank(count: int, percentile: float) -> int:
    # Rounded, since 99.9 per cent of 1000 must not become the 1000th by the last bit of a float.
    return min(max(math.ceil(round(percentile * count / 100, 9)), 1), count)


def _upper_rank(count: int, percentile: float) -> int:
    """Return the rank of the figure that is above the true percentile for sure enough; the last if none is."""
    tails = _tails(count, percentile / 100)
    return next((rank for rank in range(1, count) if tails[rank] <= 1 - _CONFIDENCE), count)


def _at_least(successes: int, trials: int, part: float) -> float:
    """Return the probability of at least so many successes, of which each has the probability `part`."""
    return _tails(trials, part)[successes]


def _tails(trials: int, part: float) -> list[float]:
    """Return for each number of successes the probability of at least so many: the binomial distribution's tails."""
    if part >= 1:
        return [1.0] * (trials + 1)
    tails, total = [0.0] * (trials + 1), 0.0
    for number in range(trials, -1, -1):
        # By logarithms: the coefficients of a thousand trials are larger than any float.
        chosen = math.lgamma(trials + 1) - math.lgamma(number + 1) - math.lgamma(trials - number + 1)
        total += math.exp(chosen + number * math.log(part) + (trials - number) * math.log1p(-part))
        tails[number] = total
    return tails
