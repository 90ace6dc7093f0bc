"""The scalability law: known constants are found again, and nonsense yields no conclusion."""

import math
import random
import sys

import pytest

from pytest_celerypool.report.sweep import Sweeps
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict import scaling
from pytest_celerypool.verdict.scaling import Law, Point, averaged, best, conclude, fit, point

SLOTS = (1, 2, 4, 8, 16, 32, 64)


def points(throughput, slots=SLOTS, noise=0.0, seed=1):
    """Points of a function of the slots, with ten executions a slot and a relative error."""
    draw = random.Random(seed)
    return [Point(each, throughput(each) * math.exp(draw.gauss(0, noise)), 10 * each) for each in slots]


@pytest.mark.parametrize(
    "law", [Law(12.0, 0.05, 0.002), Law(300.0, 0.3, 0.0001), Law(5.0, 0.0, 0.0), Law(7.0, 1.0, 0.0)]
)
def test_without_noise_the_constants_are_found(law):
    """The fit is the solution, not a near one."""
    found = fit(points(law.throughput))
    assert (found.law.rate, found.law.sigma, found.law.kappa) == pytest.approx(
        (law.rate, law.sigma, law.kappa), abs=1e-6
    )
    assert found.deviation < 1e-6


def test_with_noise_knee_and_peak_are_found_again():
    """Five per cent of noise move peak and knee by less than a third, whatever the seed."""
    law = Law(20.0, 0.05, 0.003)
    for seed in range(200):
        concluded = conclude(points(law.throughput, noise=0.05, seed=seed))
        assert concluded.why == ""
        assert concluded.peak == pytest.approx(law.peak, rel=0.33)
        assert concluded.knee == pytest.approx(law.knee, rel=0.33)


def test_the_peak_is_where_the_law_has_its_maximum():
    """N* is the square root of (1 - sigma) / kappa."""
    law = Law(20.0, 0.05, 0.003)
    assert law.peak == pytest.approx(math.sqrt(0.95 / 0.003))
    assert law.throughput(law.peak) > max(law.throughput(law.peak - 1), law.throughput(law.peak + 1))


def test_the_knee_is_where_the_ideal_line_reaches_the_greatest_throughput():
    """Without kappa that is the limit for ever more slots."""
    law = Law(20.0, 0.05, 0.003)
    assert law.rate * law.knee == pytest.approx(law.throughput(law.peak))
    assert Law(20.0, 0.05, 0.0).knee == pytest.approx(20)
    assert Law(20.0, 0.0, 0.0).knee == math.inf


def test_constants_never_become_negative():
    """Throughput that grows faster than the slots is no negative contention."""
    found = fit(points(lambda slots: 3 * slots**1.2))
    assert found.law.sigma == found.law.kappa == 0


def test_one_lock_for_all_is_no_more_than_all_of_the_work():
    """sigma stays at 1 where a second slot makes everything slower, and kappa has the rest."""
    found = fit(points(lambda slots: 10 / slots**0.5))
    assert found.law.sigma <= 1
    assert found.law.kappa > 0


@pytest.mark.parametrize("fill", [{"noise": 0.0}, {"noise": 0.05}])
def test_what_never_bends_has_neither_knee_nor_peak(fill):
    """Both lie beyond what was measured."""
    concluded = conclude(points(Law(20.0, 0.002, 0.0).throughput, slots=(1, 2, 4, 8, 16), **fill))
    assert (concluded.why, concluded.knee, concluded.peak) == ("", None, None)


def test_a_peak_beyond_what_was_measured_is_not_told():
    """The law goes on, the measurement does not."""
    law = Law(20.0, 0.0, 0.0001)
    assert law.peak == pytest.approx(100)
    assert conclude(points(law.throughput)).peak is None
    assert conclude(points(law.throughput, slots=(*SLOTS, 128, 256))).peak == pytest.approx(100, rel=0.01)


def test_a_knee_of_a_curve_that_still_rises_is_not_told():
    """Half of the greatest throughput is no ground to say where the rest is."""
    law = Law(20.0, 0.05, 0.0)
    assert conclude(points(law.throughput)).knee is None
    assert conclude(points(law.throughput, slots=(*SLOTS, 128, 256))).knee == pytest.approx(20)


@pytest.mark.parametrize("processors", [2, 4, 8])
def test_saturated_processors_have_a_knee_at_their_number_and_do_not_become_slower(processors):
    """The law has no corner and bends down behind it; that alone is no loss."""
    slots = sorted({1, 2, processors, 3 * processors // 2, 2 * processors, 3 * processors, 4 * processors})
    concluded = conclude(points(lambda each: 10.0 * min(each, processors), slots=slots))
    assert concluded.fit.law.peak < slots[-1]
    assert concluded.peak is None
    assert concluded.knee == pytest.approx(processors, rel=0.25)


def test_nonsense_yields_no_conclusion():
    """Random throughputs at six concurrencies pass for a law at most once in a hundred."""
    passed = 0
    for seed in range(300):
        draw = random.Random(seed)
        concluded = conclude([Point(slots, 10 * math.exp(draw.gauss(0, 0.7)), 10 * slots) for slots in SLOTS[:6]])
        passed += not concluded.why
        assert concluded.why == "" or (concluded.knee is None and concluded.peak is None)
    assert passed <= 3


def test_three_points_prove_nothing():
    """Three constants pass through any three points."""
    concluded = conclude(points(Law(20.0, 0.1, 0.01).throughput, slots=(1, 2, 4)))
    assert concluded.why == "3 concurrencies with enough work, and the fit of the law takes 4"
    assert concluded.fit is None


@pytest.mark.parametrize(
    ("slots", "executions", "filled"),
    [(1, 1, False), (1, 2, True), (16, 50, False), (16, 64, True), (10, 49, True), (10, 15, False), (4, 9, False)],
)
def test_a_point_says_whether_its_slots_had_enough_work(slots, executions, filled):
    """Two rounds at least, and slots that are in use for most of the rounds."""
    assert Point(slots, 1.0, executions).filled is filled


def test_points_without_enough_work_do_not_bend_the_curve():
    """Twenty tasks on 64 slots say nothing of 64 slots."""
    full = points(Law(20.0, 0.0, 0.0).throughput)
    concluded = conclude([*full[:-1], Point(64, 100.0, 20)])
    assert concluded.fit.law.sigma == pytest.approx(0, abs=1e-6)


def test_a_point_of_spans_is_what_ended_a_second():
    """A task that was revoked in the queue ran in no slot."""
    spans = [Span(f"{n}", "t", 0, "test", "solo", published=1.0, started=2.0, ended=2.0 + n) for n in range(1, 4)]
    spans.append(Span("4", "t", 0, "test", "solo", published=1.0, ended=2.0, state="REVOKED"))
    assert point(spans, 2) == Point(2, 3 / 4, 3)
    assert point([], 2) is None


def test_a_concurrency_that_was_measured_again_counts_once():
    """The median, so that one disturbed run does not decide."""
    assert averaged([Point(2, 5.0, 9), Point(1, 3.0, 9), Point(2, 50.0, 8), Point(2, 6.0, 9)]) == [
        Point(1, 3.0, 9),
        Point(2, 6.0, 8),
    ]


def test_the_best_is_the_fewest_slots_within_noise_of_the_most():
    """More slots for the same throughput are memory for nothing."""
    assert best([Point(1, 10, 9), Point(2, 19.5, 9), Point(4, 20, 9), Point(8, 19, 9)]) == Point(2, 19.5, 9)
    assert best([]) is None


# -- the section


def swept(measured, pool="prefork", test="test_a.py::test_x"):
    sweeps = Sweeps()
    for each in measured:
        sweeps.add(test, {"pool": pool, **each.data()})
    return sweeps


def test_the_section_has_a_bar_for_each_concurrency_and_says_where_knee_and_peak_are():
    """As the documentation shows it."""
    lines = swept(points(Law(20.0, 0.05, 0.003).throughput)).lines(100)
    assert lines[0] == "test_a.py::test_x under prefork"
    bars = [line.count("█") for line in lines[1:8]]
    assert max(bars) == bars[4] == 32
    assert bars[0] < bars[1] < bars[2] < bars[3]
    assert bars[5] > bars[6]
    assert lines[8:] == [
        "  X(N) = 20 N / (1 + 0.05 (N-1) + 0.003 N (N-1)), off by 0%, at most 0%",
        "  knee: 6.5 slots, at which the line of one slot, lambda N, reaches the peak of the fit",
        "  slower with still more slots: beyond 17.8",
    ]


def test_the_section_says_how_to_give_every_slot_enough_work():
    """A fixed number of tasks runs out of work for many slots."""
    text = "\n".join(swept([Point(slots, 5.0 * slots, 40) for slots in SLOTS]).lines(200))
    assert "64  320  " in text
    assert "(40 executions: too few or too uneven for 64 slots)" in text
    assert "no conclusion" not in text
    fewer = "\n".join(swept([Point(slots, 5.0 * slots, 6) for slots in SLOTS]).lines(200))
    assert "no conclusion: 2 concurrencies with enough work" in fewer
    assert "such as 10 * celery_pool_worker.concurrency tasks" in fewer


def test_without_scipy_the_measured_table_is_there_and_says_what_to_install(monkeypatch):
    """The extra is for the fit alone."""
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    lines = swept(points(Law(20.0, 0.05, 0.003).throughput)).lines(100)
    assert len(lines) == 9
    assert lines[-1].startswith("  pip install 'pytest-celerypool[sweep]'")


def test_one_concurrency_alone_needs_no_fit_and_no_scipy(monkeypatch):
    """As under solo."""
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert len(swept(points(Law(20.0, 0.0, 0.0).throughput, slots=(1,)), "solo").lines(100)) == 2


def test_importing_the_module_does_not_import_scipy():
    """It is needed only where there is something to fit."""
    import subprocess

    program = f"import sys; import {scaling.__name__}; print('scipy' in sys.modules or 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "False"
