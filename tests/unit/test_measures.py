"""What executions took, as the range in which it lies."""

import pytest

from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.measures import (
    PER_SPAN,
    Range,
    makespan_range,
    overlap_range,
    queued_range,
    runtime_range,
    throughput_range,
    total_range,
)


def span(started=1.0, ended=2.0, *, published=0.5, number=0, **fields):
    slot = fields.pop("slot", f"child {number}")
    return Span(
        f"{number}", "t", 0, "test", "prefork", published=published, started=started, ended=ended, slot=slot, **fields
    )


def bounds(found):
    return pytest.approx((found.low, found.high))


@pytest.mark.parametrize(
    ("low", "high", "limit", "above"),
    [
        (0.5, 0.5, 0.4, True),
        (0.5, 0.5, 0.6, False),
        (0.5, 0.5, 0.49, None),
        (0.5, 0.5, 0.51, None),
        (0.5, 0.9, 0.7, None),
        (0.5, 0.9, 0.4, True),
        (0.5, 0.9, 1.0, False),
    ],
)
def test_a_range_is_above_a_limit_only_with_both_its_ends_and_its_noise(low, high, limit, above):
    assert Range(low, high, 0.02).exceeds(limit) is above


@pytest.mark.parametrize(("limit", "below"), [(6, True), (4, False), (5.1, None), (4.9, None)])
def test_a_range_is_below_a_limit_only_with_both_its_ends_and_its_noise(limit, below):
    assert Range(5, 5, 0.2).falls_short(limit) is below


def test_on_an_idle_machine_a_runtime_is_one_value():
    found = runtime_range(span(waited=0.0, slot_waited=0.0, stored=0.0003, cpu=0.0))
    assert found.told
    assert found.best == 1.0


COLLECTED = {"collecting": 0.5, "collected": 0.25, "swept": 0.125}


@pytest.mark.parametrize(("measure", "low", "high"), [("runtime", 0.5, 1.0), ("cpu", 0.15, 0.4), ("hold", 0.175, 0.3)])
def test_the_collection_of_garbage_may_have_been_that_of_others(measure, low, high):
    found = PER_SPAN[measure](span(waited=0.0, slot_waited=0.0, stored=0.0, cpu=0.4, hold=0.3, **COLLECTED))
    assert bounds(found) == (low, high)


def test_what_the_task_waited_for_a_processor_is_not_its_runtime():
    assert bounds(runtime_range(span(waited=0.4, slot_waited=0.4, stored=0.0))) == (0.6, 0.6)


def test_what_the_hub_waited_meanwhile_may_have_kept_the_task():
    found = runtime_range(span(waited=0.1, slot_waited=0.4, stored=0.0))
    assert bounds(found) == (0.6, 0.9)
    assert found.best == found.low


def test_what_storing_the_result_took_may_be_the_fault_of_the_server():
    assert bounds(runtime_range(span(waited=0.0, slot_waited=0.0, stored=0.3))) == (0.7, 1.0)


def test_what_a_task_computed_it_took_whatever_others_waited():
    assert bounds(runtime_range(span(waited=0.0, slot_waited=0.9, stored=0.0, cpu=0.8))) == (0.8, 1.0)


def test_a_computation_is_known_less_well_than_a_pause():
    computed, paused = (runtime_range(span(waited=0.0, slot_waited=0.0, cpu=cpu)) for cpu in (1.0, 0.0))
    assert computed.noise > 10 * paused.noise


def test_a_queue_may_have_been_longer_by_what_was_waited_on_the_way():
    assert bounds(queued_range(span(queue_waited=0.3))) == (0.2, 0.5)


def test_what_is_not_known_of_a_queue_corrects_nothing():
    assert bounds(queued_range(span())) == (0.5, 0.5)


def test_the_total_is_the_queue_and_the_runtime():
    found = total_range(span(queue_waited=0.3, waited=0.25, slot_waited=0.25, stored=0.0))
    assert bounds(found) == (0.2 + 0.75, 0.5 + 0.75)


@pytest.mark.parametrize("measure", ["runtime", "cpu", "hold"])
def test_what_did_not_run_has_no_figure(measure):
    assert PER_SPAN[measure](span(started=None, ended=None)) is None


def test_the_makespan_of_tasks_one_after_the_other_loses_what_each_lost():
    spans = [
        span(published=0.0, started=0.0, ended=1.0, waited=0.5, slot_waited=0.5, stored=0.0, number=1),
        span(published=1.0, started=1.0, ended=2.0, waited=0.25, slot_waited=0.25, stored=0.0, number=2),
    ]
    assert bounds(makespan_range(spans)) == (2.0 - 0.75, 2.0)


def test_the_makespan_of_tasks_side_by_side_loses_what_the_last_lost():
    lost = {"waited": 0.5, "slot_waited": 0.5, "stored": 0.0, "published": 0.0, "started": 0.0}
    spans = [span(ended=1.0, number=1, **lost), span(ended=1.2, number=2, **lost)]
    assert bounds(makespan_range(spans)) == (0.7, 1.2)


def test_a_pause_between_two_tasks_belongs_to_the_makespan_where_nobody_waited():
    idle = {"waited": 0.0, "slot_waited": 0.0, "stored": 0.0, "queue_waited": 0.0}
    spans = [
        span(published=0.0, started=0.0, ended=1.0, number=1, **idle),
        span(published=5.0, started=5.0, ended=6.0, number=2, **idle),
    ]
    assert bounds(makespan_range(spans)) == (6.0, 6.0)


def test_what_was_published_late_makes_the_makespan_no_longer():
    """Who publishes may wait for a processor between two tasks, although others of them run meanwhile."""
    spans = [span(0.0, 1.0, published=0.0, publisher_waited=3.0), span(0.5, 1.5, published=0.5, publisher_waited=3.25)]
    assert bounds(makespan_range(spans)) == (1.25, 1.5)


@pytest.mark.parametrize(("late", "high"), [(0.75, 2.0), (0.25, 1.0)])
@pytest.mark.parametrize("hold", [None, 0.0])
def test_who_was_published_late_might_have_overlapped(late, high, hold):
    """That is so of greenlets too: the publisher has a thread of its own."""
    spans = [
        span(0.0, 1.0, slot="a", publisher_waited=3.0, hold=hold),
        span(1.5, 2.5, slot="b", publisher_waited=3.0 + late, hold=hold),
    ]
    assert bounds(overlap_range(spans)) == (1.0, high)


def test_a_slot_runs_one_at_a_time_however_late_it_was_published():
    """Who had to wait for the same slot could not have overlapped."""
    spans = [span(0.0, 1.0, slot="a", publisher_waited=3.0), span(1.5, 2.5, slot="a", publisher_waited=9.0)]
    assert bounds(overlap_range(spans)) == (1.0, 1.0)


def test_the_throughput_lies_between_those_of_both_makespans():
    spans = [span(published=0.0, started=0.0, ended=1.0, waited=0.5, slot_waited=0.5, stored=0.0)]
    assert bounds(throughput_range(spans)) == (1.0, 2.0)


@pytest.mark.parametrize("shared", [{"slot": "MainThread"}, {"hold": 0.0}])
def test_who_shares_a_thread_would_not_have_overlapped_either(shared):
    spans = [
        span(started=0.0, ended=1.0, number=1, **shared),
        span(started=1.001, ended=2.0, number=2, queue_waited=0.9, **shared),
    ]
    assert bounds(overlap_range(spans)) == (1.0, 1.0)


def test_who_was_kept_from_starting_might_have_overlapped():
    spans = [span(started=0.0, ended=1.0, number=1), span(started=1.1, ended=2.0, number=2, queue_waited=0.5)]
    assert bounds(overlap_range(spans)) == (1.0, 2.0)


@pytest.mark.parametrize(("fields", "noise"), [({}, 0.0005), ({"hold": 0.1}, 0.001), ({"cpu": 0.5}, 0.0505)])
def test_how_wrong_a_runtime_may_be(fields, noise):
    """Of a greenlet the system is asked less often; what was computed differs from time to time."""
    assert runtime_range(span(**fields)).noise == pytest.approx(noise)


def test_the_noise_of_a_total_is_that_of_both_its_parts():
    """What is added up may be wrong by the sum."""
    assert total_range(span(cpu=0.5)).noise == pytest.approx(0.002 + 0.0505)


def test_a_pause_between_two_tasks_may_have_been_waiting_where_somebody_waited():
    """Nobody knows what the test waited for then."""
    spans = [span(0.0, 1.0, published=0.0, waited=0.25, slot_waited=0.25), span(4.0, 5.0, published=4.0)]
    assert bounds(makespan_range(spans)) == (1.75, 5.0)


@pytest.mark.parametrize(("hold", "noise"), [(None, 0.002 + 0.05), (0.0, 0.002 + 0.1)])
def test_the_noise_of_a_makespan_is_that_of_the_slot_that_computes_most(hold, noise):
    """Greenlets compute one after the other, in one thread."""
    spans = [span(0.0, 1.0, slot=slot, pid=7, cpu=0.5, hold=hold) for slot in "ab"]
    assert makespan_range(spans).noise == pytest.approx(noise)


def test_what_the_publisher_waits_by_the_way_is_noise():
    """It is the same as that of any message."""
    spans = [span(0.0, 1.0, published=0.0, publisher_waited=3.0), span(0.5, 1.5, published=0.5, publisher_waited=3.001)]
    assert bounds(makespan_range(spans)) == (1.5, 1.5)
