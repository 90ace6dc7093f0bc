"""When a figure is worse than another, and when it may be chance."""

import random

import pytest

from pytest_celerypool.verdict.comparing import LARGEST_SAMPLE, NOISE_S, compare, needed, statistic, thinned


def verdict(before, after, percentile=95, factor=1.2, **more):
    return compare(before, after, percentile, factor, NOISE_S["runtime"], **more).verdict


@pytest.mark.parametrize("count", [1, 2, 3, 10, 25, 100])
@pytest.mark.parametrize("percentile", [50, 95, 100])
def test_twice_as_much_is_worse_however_few_the_executions(count, percentile):
    assert verdict([0.1] * count, [0.2] * count, percentile) == "worse"


def test_twice_as_much_is_worse_of_executions_that_are_not_alike():
    """A test that calls its task with little and with much work has one execution of each size."""
    assert verdict([0.01, 0.05, 0.1], [0.02, 0.1, 0.2]) == "worse"
    assert verdict([0.01, 0.1], [0.01, 0.2]) == "worse"


def test_one_outlier_among_executions_that_are_alike_is_chance():
    assert verdict([0.05] * 3, [0.05, 0.05, 0.12]) == "unclear"
    assert verdict([0.05] * 25, [0.05] * 23 + [0.3] * 2) == "unclear"


def test_an_outlier_of_the_baseline_hides_no_regression():
    assert verdict([0.05] * 19 + [0.4], [0.1] * 20) == "worse"


def test_a_tail_that_grew_is_worse():
    """Where there are executions enough, the bulk need not be worse for its percentile to be."""
    assert verdict([0.05] * 60, [0.05] * 50 + [0.3] * 10) == "worse"
    assert verdict([0.05] * 60, [0.05] * 56 + [0.3] * 4) == "unclear"


def test_within_the_tolerance_nothing_is_worse():
    assert verdict([0.1], [0.12]) == "within"
    assert verdict([0.1] * 50, [0.05] * 50) == "within"


def test_a_small_excess_is_chance_for_few_executions_and_worse_for_many():
    few = compare([0.1] * 3, [0.125] * 3, 95, 1.2, 0.0)
    assert (few.verdict, few.enough) == ("unclear", 20)
    assert verdict([0.1] * 50, [0.125] * 50) == "worse"


def test_what_takes_next_to_nothing_is_not_worse_by_milliseconds():
    assert verdict([0.0002], [0.005]) == "unclear"
    assert verdict([0.0], [0.001]) == "unclear"


@pytest.mark.parametrize("percentile", [50, 95])
@pytest.mark.parametrize(("spread", "counts"), [(0.1, [1, 2, 10, 40]), (0.3, [40])])
def test_samples_of_one_distribution_differ_by_chance_alone(percentile, spread, counts):
    """Of a thousand pairs of samples of one distribution with a long tail, hardly any is worse."""
    draw = random.Random(1)
    worse = 0
    for number in range(1000):
        before, after = (
            [0.05 * draw.lognormvariate(0, spread) for _ in range(counts[number % len(counts)])] for _ in range(2)
        )
        worse += verdict(before, after, percentile) == "worse"
    assert worse <= 5


def test_chance_is_reckoned_from_what_is_usual():
    """Where a quarter is demanded, half is too much, although it is less."""
    assert verdict([1.0] * 4, [0.5] * 4, 100, 0.25, same=0.25) == "worse"


def test_counts_may_differ():
    assert verdict([0.1], [0.2] * 30) == "worse"
    assert verdict([0.1] * 30, [0.2]) == "worse"


def test_thinned_keeps_the_ends_and_the_order():
    values = list(range(1000, 0, -1))
    kept = thinned(values)
    assert (len(kept), kept[0], kept[-1]) == (LARGEST_SAMPLE, 1, 1000)
    assert kept == sorted(kept)
    assert thinned([3.0, 1.0]) == [1.0, 3.0]


def test_thinned_keeps_the_percentiles():
    values = [float(value) for value in range(10_000)]
    for percentile in (50, 95, 99):
        assert statistic(thinned(values), percentile) == pytest.approx(statistic(values, percentile), abs=101)


@pytest.mark.parametrize(("percentile", "count"), [(50, 2), (95, 20), (99, 100), (100, 1)])
def test_a_percentile_needs_executions(percentile, count):
    """With fewer it is their maximum."""
    assert needed(percentile) == count
    assert statistic(range(count), percentile) < count - 1 or percentile == 100
