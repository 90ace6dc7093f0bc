"""The detector of what keeps the hub: it ends, blames the right line, and is not fooled by waiting for others."""

import asyncio
import ctypes
import gc
import importlib.util
import os
import subprocess
import sys
import threading
import time
import types
from textwrap import dedent

import greenlet
import pytest

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.collecting import Collections
from pytest_celerypool.agent.detectors.hub import stalls
from pytest_celerypool.agent.detectors.hub.explained import Explained
from pytest_celerypool.agent.detectors.hub.kept import HubKept
from pytest_celerypool.agent.detectors.hub.samples import Hold, Sample, Watchdog, is_runnable, sample
from pytest_celerypool.agent.detectors.hub.stalls import Counters, Counts, is_of_the_machine
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import ChildMeter, Run

LINE, OTHER = ("/proj/tasks.py", 3, "slow"), ("/proj/tasks.py", 9, "quick")


def seen(user, *, excused=False, position=(1, 1)):
    return Sample(user, (user,), excused, position)


@pytest.fixture
def hold():
    return Hold(types.SimpleNamespace(since=1.0), time.thread_time())


def test_the_line_seen_most_often_is_blamed(hold):
    hold.samples += [seen(OTHER), seen(LINE), seen(LINE)]
    assert hold.place().user == LINE
    assert hold.times(LINE) == 2


def test_loading_a_module_or_starting_a_process_is_no_fault_of_the_line(hold):
    hold.samples += [seen(LINE, excused=True)] * 3 + [seen(OTHER)]
    assert hold.excused() == 0.75
    assert hold.place().user == OTHER


def test_a_hold_that_nobody_saw_has_no_line(hold):
    assert hold.place() is None
    assert hold.excused() == 0.0


def test_a_thread_that_computes_meanwhile_may_have_had_the_interpreters_lock(hold):
    hold._process -= 1.0  # a second of processor time of other threads
    hold.samples += [seen(LINE, position=(1, number)) for number in range(3)]
    assert hold.contended(0.2, hold._cpu)


def test_one_call_that_lasts_has_not_waited_for_the_interpreters_lock(hold):
    hold._process -= 1.0
    hold.samples += [seen(LINE)] * 3
    assert not hold.contended(0.2, hold._cpu)


def test_while_the_thread_that_looks_waits_for_a_processor_the_hubs_thread_waits_for_it():
    kept = Hold(types.SimpleNamespace(since=1.0), 0.5, began=0.49, waited=3.0)
    kept.looked(0.5, 3.1)
    kept.looked(0.501, 3.15)
    assert kept.stalled == pytest.approx(0.15)


def test_a_hubs_thread_in_one_call_of_c_does_not_wait_for_the_thread_that_looks():
    kept = Hold(types.SimpleNamespace(since=1.0), 0.5, began=0.5, waited=3.0)
    kept.looked(0.5, 3.1)
    kept.looked(0.5, 3.2)
    assert kept.stalled == 0.0


@pytest.fixture
def judged():
    """Return the kinds that are reported of a hold."""

    def judge(hold, held, used, *, stalled=0.0, collected=0.0, machine=False, limit=0.1, lasts=False):
        told = []
        watch = types.SimpleNamespace(recorder=types.SimpleNamespace(failed=lambda *failed: told.append(failed)))
        detector = HubKept(watch)
        detector._pid = os.getpid()
        detector._watchdog = types.SimpleNamespace(
            of=lambda meter: hold, stalled=lambda hold: stalled, is_of_the_machine=lambda held: machine
        )
        detector._collections = types.SimpleNamespace(since=lambda moment: collected)
        detector._limits = {"hub-blocked": limit, "hub-busy": limit}
        detector._report = lambda kind, *_: told.append(kind)
        meter = types.SimpleNamespace(since=0.0)
        detector._lasts(meter, hold, held, used) if lasts else detector._held(meter, held, used)
        return told

    return judge


@pytest.mark.parametrize(("stalled", "kinds"), [(0.15, []), (0.05, ["hub-blocked"])])
def test_the_wait_for_the_thread_that_looks_is_taken_off_a_hold(hold, judged, stalled, kinds):
    assert judged(hold, 0.2, 0.001, stalled=stalled) == kinds


@pytest.mark.parametrize(
    ("used", "machine", "kinds"),
    [(0.001, False, ["hub-blocked"]), (0.001, True, []), (0.2, True, ["hub-busy"])],
)
def test_a_hold_that_nobody_saw_is_no_tasks_where_the_machine_stood_still(judged, used, machine, kinds):
    assert judged(None, 0.2, used, machine=machine) == kinds


def test_a_hold_that_was_seen_is_the_tasks_whatever_the_machine_did(hold, judged):
    assert judged(hold, 0.2, 0.001, machine=True) == ["hub-blocked"]


@pytest.mark.parametrize(
    ("lines", "held", "kinds"),
    [([None, None], 0.19, []), ([None, None], 0.21, ["hub-busy"]), ([None, LINE], 0.11, ["hub-busy"])],
)
def test_what_celery_computes_on_its_own_for_a_task_is_told_of_from_twice_the_threshold_on(
    hold, judged, lines, held, kinds
):
    hold.samples += [Sample(line, (OTHER,), False, (1, 1)) for line in lines]
    assert judged(hold, held, held) == kinds


@pytest.mark.parametrize(
    ("line", "held", "kinds"), [(None, 0.19, []), (None, 0.21, ["hub-blocked"]), (LINE, 0.11, ["hub-blocked"])]
)
def test_so_is_what_it_waits_for_such_as_the_disk_with_the_source(hold, judged, line, held, kinds):
    hold.samples.append(Sample(line, (OTHER,), False, (1, 1)))
    assert judged(hold, held, 0.001) == kinds


def test_what_celery_goes_on_to_compute_is_told_of_although_the_threshold_is_high(hold, judged):
    """It is judged once: who passes over it then is silent however long it takes."""
    hold.samples.append(Sample(None, (OTHER,), False, (1, 1)))
    assert judged(hold, 1.5, 1.5, limit=1.0, lasts=True) == ["hub-busy"]


@pytest.mark.parametrize(("collected", "kinds"), [(0.15, []), (0.05, ["hub-busy"])])
def test_the_collection_of_garbage_is_taken_off_a_hold(hold, judged, collected, kinds):
    assert judged(hold, 0.2, 0.2, collected=collected) == kinds


@pytest.fixture
def collections():
    heard = Collections(lambda: heard.slot, lambda *noted: heard.noted.append(noted))
    heard.noted = []
    heard.slot = types.SimpleNamespace(collected=0.0)
    heard.install()
    yield heard
    heard.remove()
    assert heard._on_collection not in gc.callbacks


def fill():
    """Make so many objects that Python does not know of yet that it needs milliseconds to look at them."""
    gc.disable()
    kept = [[] for _ in range(300_000)]
    gc.enable()
    return kept + [[] for _ in range(5000)]


def test_a_collection_that_python_began_by_itself_is_noted(collections):
    before = time.monotonic()
    kept = fill()
    after = time.monotonic()
    assert 0.001 < collections.since(before) < after - before
    assert collections.slot.collected == collections.since(0.0) == sum(took for _, took in collections.noted)
    assert collections.since(after) == 0.0
    assert kept


@pytest.mark.parametrize(
    ("generation", "count", "measured"), [(0, 4999, False), (0, 5000, True), (1, 800, True), (2, 800, True)]
)
def test_collections_of_few_new_objects_are_not_measured(collections, monkeypatch, generation, count, measured):
    monkeypatch.setattr(gc, "get_count", lambda: (count, 0, 0))
    monkeypatch.setattr(gc, "get_threshold", lambda: (700, 10, 10))  # 2000 in Python 3.13
    gc.disable()  # none that Python begins by itself comes in between
    try:
        monkeypatch.setattr(gc, "isenabled", lambda: True)
        collections._on_collection("start", {"generation": generation})
        assert (collections._began is not None) is measured
    finally:
        gc.enable()


def test_a_collection_that_was_asked_for_is_the_doing_of_who_asked(collections):
    kept = fill()
    before = time.monotonic()
    gc.collect()
    assert collections.since(before) == 0.0
    assert kept


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts descriptors in /proc")
def test_the_thread_leaves_no_file_open():
    before = len(os.listdir("/proc/self/fd"))
    dog = watchdog(Tracer(), [], [])
    dog.start()
    assert dog.stop()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sample_names_the_innermost_line_of_the_user():
    described = sample(sys._getframe(), Frames(os.path.dirname(__file__)))
    assert described.user[0] == __file__
    assert described.stack[0] == described.user
    assert not described.excused


def test_a_hold_is_that_of_one_meter_since_one_moment(hold):
    meter = types.SimpleNamespace(since=2.0)
    kept = Hold(meter, 0.0)
    assert kept.of(meter)
    meter.since = 3.0
    assert not kept.of(meter)
    assert not kept.of(types.SimpleNamespace(since=2.0))


class Greenlet:
    """Stands for one that runs."""

    gr_frame = None
    dead = False


class Tracer:
    """Stands for the tracer of switches."""

    asked_at = 0.0

    def __init__(self):
        self.meters = {}

    def put_off(self, timer, pace_s):
        if timer is not None:
            timer()


def meter_now(**more):
    """Stands for that of a task that gets the hub now."""
    asked = (time.thread_time(), None, 0)
    return types.SimpleNamespace(since=time.monotonic(), greenlet=Greenlet(), asked=asked, **more)


def watchdog(tracer, reports, failures, *, limit=0.02, endless=0.1):
    return Watchdog(tracer, Frames("/"), limit, endless, lambda *arguments: reports.append(arguments), failures.append)


def threads_of_the_system():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_the_thread_ends_also_while_it_sleeps_for_want_of_tasks(monkeypatch):
    monkeypatch.setattr("pytest_celerypool.agent.detectors.hub.samples.IDLE_S", 0.01)
    failures = []
    dog = watchdog(Tracer(), [], failures)
    before = threads_of_the_system()
    dog.start()
    deadline = time.monotonic() + 5
    while not dog.asleep and time.monotonic() < deadline:
        originals.sleep(0.01)
    assert dog.asleep
    assert dog.stop()
    while threads_of_the_system() > before and time.monotonic() < deadline:
        originals.sleep(0.01)
    assert threads_of_the_system() == before
    assert not failures


def test_a_thread_that_sleeps_is_woken_by_a_task(monkeypatch):
    monkeypatch.setattr("pytest_celerypool.agent.detectors.hub.samples.IDLE_S", 0.01)
    tracer, reports = Tracer(), []
    dog = watchdog(tracer, reports, [])
    dog.start()
    try:
        deadline = time.monotonic() + 5
        while not dog.asleep and time.monotonic() < deadline:
            originals.sleep(0.01)
        tracer.meters["slot"] = meter_now()
        dog.wake()
        while not reports and time.monotonic() < deadline:
            originals.sleep(0.01)
    finally:
        dog.stop()
    assert reports


def test_a_hold_that_goes_on_is_reported_once():
    tracer, reports = Tracer(), []
    meter = tracer.meters["slot"] = meter_now()
    dog = watchdog(tracer, reports, [])
    dog.start()
    originals.sleep(0.4)
    dog.stop()
    ((reported, hold, held, used),) = reports
    assert reported is meter
    assert held >= 0.1
    assert used < held / 2
    assert hold.place().user[0] == __file__
    assert dog.of(meter) is hold


def test_a_greenlet_that_waits_for_its_first_turn_does_not_keep_the_hub():
    """It has no frame, as one that runs: it may have been spawned to begin in an hour."""
    tracer, reports = Tracer(), []
    parent = meter_now(id="1", task=None, about="")
    child = ChildMeter(types.SimpleNamespace(delayed=None, asked=None, getcurrent=Greenlet), parent, Greenlet())
    tracer.meters.update(child=child)
    dog = watchdog(tracer, reports, [])
    dog.start()
    originals.sleep(0.4)
    alone = list(reports)
    tracer.meters.update(parent=parent)
    deadline = time.monotonic() + 5
    while not reports and time.monotonic() < deadline:
        originals.sleep(0.01)
    dog.stop()
    assert not alone
    assert [reported for reported, *_ in reports] == [parent]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it looks at a regular pace")
def test_who_had_just_got_the_hub_when_the_thread_looked_is_looked_at_again(monkeypatch):
    monkeypatch.setattr("pytest_celerypool.agent.detectors.hub.samples.LONGEST_S", 1000.0)
    tracer, reports = Tracer(), []
    tracer.meters["slot"] = meter_now()
    tracer.asked_at = time.monotonic() + 0.02
    dog = watchdog(tracer, reports, [])
    dog.start()
    try:
        deadline = time.monotonic() + 10
        while not reports and time.monotonic() < deadline:
            originals.sleep(0.01)
    finally:
        dog.stop()
    assert reports


def test_a_thread_that_could_go_on_is_not_blocked_however_long_it_does_not(monkeypatch):
    """It waits for a processor, which the system tells only once it has one."""
    monkeypatch.setattr("pytest_celerypool.agent.detectors.hub.samples.is_runnable", lambda native_id: True)
    tracer, reports = Tracer(), []
    tracer.meters["slot"] = meter_now()
    dog = watchdog(tracer, reports, [])
    dog.start()
    originals.sleep(0.4)
    dog.stop()
    assert not reports


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="asks /proc")
def test_a_thread_that_computes_is_runnable_and_one_that_waits_is_not():
    assert is_runnable(originals.get_native_id())
    ids, end = [], originals.allocate_lock()
    end.acquire()

    def wait():
        ids.append(originals.get_native_id())
        end.acquire()

    originals.start_new_thread(wait, ())
    deadline = time.monotonic() + 5
    while not (ids and not is_runnable(ids[0])) and time.monotonic() < deadline:
        originals.sleep(0.01)
    assert not is_runnable(ids[0])
    end.release()
    assert not is_runnable(0)


def test_what_the_thread_stumbles_over_ends_it_and_is_told():
    tracer, failures = Tracer(), []
    tracer.meters["slot"] = types.SimpleNamespace(since=time.monotonic())  # no greenlet
    dog = watchdog(tracer, [], failures)
    dog.start()
    deadline = time.monotonic() + 5
    while not failures and time.monotonic() < deadline:
        originals.sleep(0.01)
    assert dog.stop()
    (failure,) = failures
    assert isinstance(failure, AttributeError)


#: Spawns greenlets inside and outside of a task, and tells what is watched.
CHILDREN = """
import types
from pytest_celerypool.agent import originals
{patch}
from pytest_celerypool.agent.detectors.hub.kept import HubKept
from pytest_celerypool.agent.meters import ChildMeter, Clocks, SwitchTracer
import threading, time, {name}

tracer = SwitchTracer(Clocks())
recorder = types.SimpleNamespace(tracer=tracer, failed=print, collections=None)
pool = types.SimpleNamespace(name="{name}", green=True)
watch = types.SimpleNamespace(
    recorder=recorder, pool=pool, frames=None, limit=lambda kind: 0.1, on=lambda kind: True, running=lambda: [],
    guarded=lambda detector, callback: callback, bind=lambda: None,
)
before = {name}.spawn
detector = HubKept(watch)
detector.install()
detector.begin()
parents = []

def child():
    parents.extend(meter.parent.id for meter in list(tracer.meters.values()) if isinstance(meter, ChildMeter))
    time.sleep(0.01)

def task():
    meter = tracer.start("t", None, "")
    thread = threading.Thread(target=child)
    thread.start()
    {name}.spawn(child)
    time.sleep(0.05)
    thread.join()
    tracer.running.pop(meter.greenlet)
    meter.stop()
    detector.ended(meter, "SUCCESS", None)

threading.Thread(target=child).start()
time.sleep(0.03)
assert not parents, parents
greenlet = {name}.spawn(task)
time.sleep(0.2)
assert set(parents) == {{"t"}}, parents
assert not tracer.meters, tracer.meters
detector.remove()
assert before == {name}.spawn
assert tracer.on_hold is None
meter = tracer.start("after", None, "")
{name}.spawn(child)
assert list(tracer.meters.values()) == [meter], tracer.meters
print("as promised")
"""


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("gevent", "from gevent import monkey; monkey.patch_all()"),
        ("eventlet", "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()"),
    ],
)
def test_greenlets_that_a_task_spawns_are_watched_as_its_own(name, patch):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    code = dedent(CHILDREN).format(name=name, patch=patch)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "as promised" in done.stdout, done.stderr


BEFORE = Counts(at=10.0, switches=100, faults=3, stolen=1.0)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Counts(10.3, 155, 3, 1.0), False),  # who looks has asked for the interpreter's lock all the time
        (Counts(10.3, 120, 3, 1.02), False),
        (Counts(10.3, 102, 3, 1.0), True),  # it did not get to ask: the machine stood still
        (Counts(10.3, 155, 4, 1.0), True),  # a page was read from the disk
        (Counts(10.3, 155, 3, 1.2), True),  # a hypervisor had the processor
        (None, False),
    ],
)
def test_a_hold_that_nobody_saw_is_the_machines_if_it_stood_still(now, expected, monkeypatch):
    monkeypatch.setattr(sys, "getswitchinterval", lambda: 0.005)
    assert is_of_the_machine(BEFORE, now, 0.3) is expected
    assert not is_of_the_machine(None, now, 0.3)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the system does not tell")
def test_a_thread_that_waits_for_the_interpreters_lock_asks_for_it_again_and_again():
    """As C code keeps it here, and sleeps."""
    hub, numbers, ready, end = threading.get_native_id(), [], threading.Event(), threading.Event()

    def look():
        numbers.append(threading.get_native_id())
        ready.set()
        while not end.wait(0.001):
            pass

    thread = threading.Thread(target=look)
    thread.start()
    assert ready.wait(5)
    counters = Counters(numbers[0], hub)
    before = counters.read()
    ctypes.PyDLL(None).usleep(300_000)
    now = counters.read()
    counters.close()
    assert counters.read() is None
    end.set()
    thread.join(5)
    assert now.switches - before.switches > 0.2 * 0.3 / sys.getswitchinterval()
    assert now.at - before.at >= 0.3
    assert now.faults >= before.faults
    assert now.stolen >= before.stolen


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the system does not tell")
def test_the_thread_that_looks_counts_its_own_switches_as_others_count_them():
    counters = Counters(threading.get_native_id(), threading.get_native_id())
    before = counters.look()
    time.sleep(0.01)
    looked, read = counters.look(), counters.read()
    counters.close()
    assert counters.look() is None
    assert before.switches < looked.switches <= read.switches
    assert before.at <= looked.at <= read.at


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the system does not tell")
def test_what_the_machine_did_is_read_a_few_times_a_second_alone(monkeypatch):
    counters = Counters(threading.get_native_id(), threading.get_native_id())
    told = iter([(1, 0.5), (2, 0.75)])
    monkeypatch.setattr(counters, "_of_machine", lambda: next(told))
    looks = [counters.look() for _ in range(3)]
    time.sleep(stalls._MACHINE_S)
    looks.append(counters.look())
    counters.close()
    assert [(each.faults, each.stolen) for each in looks] == [(1, 0.5)] * 3 + [(2, 0.75)]


def test_no_hold_is_excused_where_the_system_counts_nothing(monkeypatch):
    monkeypatch.setattr(stalls.originals, "open_file", lambda *_: os.open("/nowhere/at/all", os.O_RDONLY))
    counters = Counters(1, 1)
    assert counters.look() is None
    assert counters.read() is None


@pytest.mark.parametrize(("running", "told"), [(True, ["loop-shared"]), (False, [])])
def test_a_coroutine_that_is_hung_on_the_loop_of_another_greenlet_is_told_of(running, told):
    main, loop = greenlet.getcurrent(), asyncio.new_event_loop()

    def crawl():
        loop.call_soon(main.switch)
        loop.run_forever()

    crawling = greenlet.greenlet(crawl)
    if running:
        crawling.switch()  # as one that waits in the middle of its loop
    reports, (run, other) = [], (Run(name, types.SimpleNamespace(name=name), "") for name in ("one", "two"))
    watch = types.SimpleNamespace(
        frames=Frames(os.path.dirname(__file__)),
        pool=types.SimpleNamespace(name="gevent", green=True),
        recorder=types.SimpleNamespace(tracer=types.SimpleNamespace(running={crawling: other})),
        current=lambda: run,
        guarded=lambda _detector, callback: callback,
        report=lambda kind, *_, **__: reports.append(kind),
    )
    detector = Explained(watch)
    detector.begin()
    hung = loop.create_task(asyncio.sleep(0))
    detector.remove()
    hung.add_done_callback(lambda _: loop.stop())
    crawling.switch() if running else loop.run_forever()
    assert hung.done()
    loop.close()
    assert reports == told
