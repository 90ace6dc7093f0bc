"""What the agent measures of one execution, with real clocks, threads and greenlets.

Green libraries run in processes of their own: nothing in pytest's process may be patched or traced.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_celerypool.agent import meters
from pytest_celerypool.agent.meters import MEMORY_AGE_S, SLACK_S, Clocks, ProcFile, SwitchTracer, ThreadMeter
from pytest_celerypool.agent.recorder import Recorder, Writer
from pytest_celerypool.trace import TraceReader

LINUX = sys.platform == "linux"

#: Four greenlets of one hub: each becomes a task, does its part, and prints what was measured.
GREEN = """
import ctypes, gc, json, sys, time, weakref
from pytest_celerypool.agent import originals
LIBRARY = sys.argv[1]
if LIBRARY == "gevent":
    from gevent import monkey; monkey.patch_all()
    import gevent
    spawn, sleep, wait = gevent.spawn, gevent.sleep, gevent.joinall
else:
    import warnings; warnings.simplefilter("ignore")
    import eventlet; eventlet.monkey_patch()
    spawn, sleep = eventlet.spawn, eventlet.sleep
    wait = lambda greenlets: [one.wait() for one in greenlets]
import greenlet
events = []
greenlet.settrace(lambda event, args: events.append(event))
from pytest_celerypool.agent.meters import Clocks, SwitchTracer

tracer = SwitchTracer(Clocks())

def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

PARTS = {
    "spins": lambda: spin(0.06),
    "sleeps": lambda: sleep(0.06),
    "blocks": lambda: ctypes.CDLL(None).usleep(60000),
    "takes turns": lambda: [(spin(0.006), sleep(0)) for _ in range(10)],
}
measured = {}

def task(name):
    meter = tracer.start(name, None, "")
    PARTS[name]()
    assert tracer.running.pop(tracer.getcurrent()) is meter
    measured[name] = meter.stop()._asdict()
    kept.append(meter)
    of[name] = weakref.ref(tracer.getcurrent())

kept, of = [], {}
wait([spawn(task, name) for name in PARTS])
assert not tracer.running
measured["events"] = len(events)
sleep(0.01)
gc.collect()
measured["left"] = [name for name, ref in of.items() if ref() is not None]
print(json.dumps(measured))
"""


@pytest.fixture(scope="module", params=["gevent", "eventlet"])
def green(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What was measured of each part: processor time, hold, wait."""
    command = [sys.executable, "-c", GREEN, request.param]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=root)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def test_a_greenlet_that_computes_holds_its_hub_for_its_processor_time(green):
    cpu, hold = green["spins"]["cpu"], green["spins"]["hold"]
    assert 0.06 <= cpu < 0.07
    if LINUX:  # elsewhere the time in which other processes had the processor counts
        assert 0.06 <= hold + SLACK_S < 0.1


def test_a_greenlet_that_sleeps_holds_nothing(green):
    cpu, hold = green["sleeps"]["cpu"], green["sleeps"]["hold"]
    assert cpu < 0.005
    assert hold < 0.03


def test_a_greenlet_that_blocks_its_thread_holds_its_hub_and_computes_nothing(green):
    cpu, hold = green["blocks"]["cpu"], green["blocks"]["hold"]
    assert cpu < 0.01
    assert 0.06 - SLACK_S <= hold < 0.1


def test_processor_time_adds_up_over_switches_and_the_hold_is_the_longest(green):
    cpu, hold = green["takes turns"]["cpu"], green["takes turns"]["hold"]
    assert 0.06 <= cpu < 0.07
    assert 0.006 - SLACK_S <= hold < 0.04


def test_the_time_spent_waiting_for_a_processor_is_told_where_the_system_does(green):
    waits = [green[name]["wait"] for name in ("spins", "sleeps", "blocks", "takes turns")]
    assert all(wait >= 0.0 for wait in waits) if LINUX else waits == [None] * 4


def test_a_tracer_that_was_there_before_still_sees_every_switch(green):
    assert green["events"] > 10


def test_who_keeps_what_was_measured_does_not_keep_the_greenlet(green):
    assert green["left"] == []


def test_a_thread_is_measured_by_its_own_clocks():
    clocks = Clocks()
    meter = ThreadMeter(clocks, "id", None, "about")
    other = threading.Thread(target=_spin, args=(0.05,))
    other.start()
    other.join()
    cost = meter.stop()
    assert cost.cpu < 0.04
    assert cost.hold is None
    assert cost.wait is None or cost.wait >= 0.0
    meter = ThreadMeter(clocks, "id", None, "about")
    _spin(0.02)
    assert 0.02 <= meter.stop().cpu < 0.03


def _spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_file_closed_by_others_is_opened_again(tmp_path: Path):
    path = tmp_path / "statm"
    path.write_text("12 34 56\n")
    file = ProcFile(str(path))
    assert file.second() == 34
    os.close(file._fd)
    path.write_text("12 78 56\n")
    assert file.second() == 78
    os.close(file._fd)


@pytest.mark.parametrize("contended", [True, False])
@pytest.mark.parametrize(
    ("text", "waits"),
    [
        ("1 2000000000 3\n", (2.0, 3)),
        ("1 2000000000 3 4\n", (2.0, 3)),
        ("1 2\n", (None, 0)),
        ("1 2 x", (None, 0)),
    ],
)
def test_waits_and_turns_are_offered_together_or_not_at_all(tmp_path: Path, text: str, waits: Any, contended: bool):
    path = tmp_path / "schedstat"
    path.write_text(text)
    file = ProcFile(str(path), contended=contended)
    assert file.waits() == waits
    file.close()


def test_a_figure_that_gets_shorter_is_read_right(tmp_path: Path):
    """The buffer still has the end of the longer text."""
    path = tmp_path / "schedstat"
    path.write_text("1234567 7654321 12\n")
    file = ProcFile(str(path))
    assert file.second() == 7654321
    path.write_text("1 2 3\n")
    assert file.second() == 2
    os.close(file._fd)


def test_a_file_that_does_not_exist_offers_nothing(tmp_path: Path):
    assert ProcFile(str(tmp_path / "none")).second() is None


@pytest.mark.parametrize("text", ["1 two", "1", ""])
def test_a_figure_that_is_no_number_or_not_there_is_not_offered(tmp_path: Path, text: str):
    path = tmp_path / "file"
    path.write_text(text)
    file = ProcFile(str(path))
    assert file.second() is None
    os.close(file._fd)


@pytest.mark.skipif(not LINUX, reason="/proc")
def test_memory_just_read_is_not_read_again_at_a_start():
    clocks = Clocks()
    read = clocks.memory(100.0)
    kept = b"x" * (32 << 20)
    assert clocks.recent_memory(100.0 + MEMORY_AGE_S / 2) == read
    later = clocks.recent_memory(100.0 + MEMORY_AGE_S * 2)
    assert read is not None
    assert later is not None
    assert later - read > len(kept) / 2


@pytest.mark.skipif(not LINUX, reason="/proc")
def test_memory_is_that_of_the_process():
    memory = Clocks().memory(time.monotonic())
    assert memory is not None
    assert 1 << 20 < memory < 1 << 36


# -- the recorder's own receivers


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The path of a trace."""
    return tmp_path / "trace"


@pytest.fixture
def recorder(trace: Path) -> Any:
    """A recorder that listens to nothing."""
    recorder = Recorder(Writer(str(trace)), green=False)
    yield recorder
    os.close(recorder.writer._fd)


def task_named(name: str, *, is_eager: bool = False) -> Any:
    """A task that is being executed."""
    request = SimpleNamespace(is_eager=is_eager, retries=None, argsrepr="('ä\"',)", kwargsrepr=None, timelimit=None)
    return SimpleNamespace(name=name, request_stack=SimpleNamespace(top=request))


def records(trace: Path) -> list[dict[str, Any]]:
    reader = TraceReader(trace)
    found = list(reader.read())
    reader.close()
    return found


def test_start_and_end_have_every_field(recorder: Any, trace: Path):
    task = task_named('proj.ta"sk')
    recorder._on_prerun(task_id="i\n1", task=task, sender=task)
    recorder._on_postrun(task_id="i\n1", task=task, state="FAILURE", retval=ValueError("ä", 1))
    start, end = records(trace)
    common = {"id": "i\n1", "task": 'proj.ta"sk', "retries": 0, "pid": os.getpid(), "slot": "MainThread"}
    measured = {name: start[name] for name in ("t", "mem", "delayed")}
    assert start == {**common, **measured, "e": "start", "args": "('ä\"',)", "kwargs": None}
    error = {"type": "ValueError", "module": "builtins", "args": ["ä", 1], "text": "ValueError('ä', 1)"}
    measured = {name: end[name] for name in ("t", "cpu", "wait", "delay", "mem")}
    figures = {**measured, "stored": 0.0, "hold": None, "kept": None}
    assert end == {**common, **figures, "e": "end", "state": "FAILURE", "exc": error}
    assert start["t"] <= end["t"]


def test_a_collection_of_garbage_is_in_the_figures_of_the_task_that_it_struck(recorder: Any, trace: Path):
    recorder._on_prerun(task_id="1", task=task_named("proj.task"))
    collections = recorder.collections
    collections._began = time.monotonic(), time.thread_time() - 0.25
    collections._on_collection("stop", {})
    recorder._on_postrun(task_id="1", task=task_named("proj.task"), state="SUCCESS")
    _, collected, end = records(trace)
    assert (collected["e"], collected["pid"]) == ("gc", os.getpid())
    assert end["collected"] == pytest.approx(collected["took"])
    assert 0.25 <= end["collected"] < 0.3
    assert end["swept"] == 0.0


def test_a_task_whose_start_was_not_seen_ends_without_figures(recorder: Any, trace: Path):
    task = task_named("proj.task")
    recorder._on_postrun(task_id="1", task=task, state="SUCCESS", retval=None)
    (end,) = records(trace)
    assert (end["slot"], end["state"], end["exc"]) == (None, "SUCCESS", None)
    assert "cpu" not in end


@pytest.mark.skipif(not LINUX, reason="/proc")
@pytest.mark.parametrize("alone", [True, False])
def test_the_memory_at_the_end_is_read_for_a_task_that_was_alone(recorder: Any, trace: Path, alone: bool):
    """While others run nobody can tell whose it is, and it need not be read for each."""
    if not alone:
        recorder.running["another"] = None
    recorder._on_prerun(task_id="1", task=task_named("proj.task"))
    kept = b"x" * (64 << 20)
    recorder._clocks._memory_read = time.monotonic() + 60.0  # just now, however long the next line takes
    recorder._on_postrun(task_id="1", task=task_named("proj.task"), state="SUCCESS")
    start, end = records(trace)
    assert (end["mem"] - start["mem"] > len(kept) / 2) is alone


class Text(str):
    """A string of a class of its own."""


@pytest.mark.parametrize("name", ["", 'a"b\\c\n\x00é✓\ud800', Text("x"), 7, None, Path("x")])
def test_an_id_may_be_anything(recorder: Any, trace: Path, name: Any):
    recorder._on_prerun(task_id=name, task=task_named("proj.task"))
    recorder._on_postrun(task_id=name, task=task_named("proj.task"), state="SUCCESS")
    start, end = records(trace)
    expected = repr(name) if isinstance(name, Path) else name
    assert (start["e"], start["id"], start["args"]) == ("start", expected, "('ä\"',)")
    assert (end["e"], end["id"], end["state"]) == ("end", expected, "SUCCESS")
    assert end["cpu"] >= 0.0


def test_an_eager_task_is_not_recorded(recorder: Any, trace: Path):
    task = task_named("proj.task", is_eager=True)
    recorder._on_prerun(task_id="1", task=task)
    recorder._on_postrun(task_id="1", task=task, state="SUCCESS", retval=None)
    assert records(trace) == []


def test_a_reception_has_every_field(recorder: Any, trace: Path):
    recorder._on_received(SimpleNamespace(id="1", name="proj.task", eta=None, request_dict={"retries": 2}))
    recorder._on_received(SimpleNamespace(id="2", name="proj.task", eta="soon", request_dict={}))
    one, other = records(trace)
    assert one == {"e": "recv", "t": one["t"], "id": "1", "task": "proj.task", "retries": 2, "eta": None}
    assert (other["retries"], other["eta"]) == (0, "soon")


@pytest.mark.parametrize("receiver", ["_on_received", "_on_prerun", "_on_postrun"])
def test_a_failure_of_the_agent_is_recorded_once_and_goes_no_further(recorder: Any, trace: Path, receiver: str):
    for _ in range(2):
        getattr(recorder, receiver)()
    (error,) = records(trace)
    assert (error["e"], error["where"]) == ("agent-error", receiver)
    assert "NoneType" in error["error"]


def test_a_thread_may_have_waited_for_the_main_one(moment):
    """Which had the interpreter's lock, and no processor: what it waited is known beside the task's own wait."""

    class Told:
        pid = -1  # of no thread here: the meter's is not the main one
        told, beside = [(1.0, 10), (1.25, 30)], [7.0, 7.5]

        def waits(self):
            return self.told.pop(0)

        def delay_beside(self, _now):
            return self.beside.pop(0)

    meter = ThreadMeter(Told(), "1", None, "")
    moment.now = 1.0
    cost = meter.stop()
    assert (cost.wait, cost.delay) == (0.25, 0.75)


def test_who_has_had_a_processor_all_the_time_has_not_waited_for_the_main_thread(moment):
    class Told:
        pid = -1
        beside = [7.0]

        def waits(self):
            return 1.0, 10

        def delay_beside(self, _now):
            return self.beside.pop(0)  # a second question raises

    meter = ThreadMeter(Told(), "1", None, "")
    moment.now = moment.used = 1.0
    assert meter.stop().delay == 0.0


def test_the_main_threads_wait_is_read_once_in_a_millisecond():
    clocks = Clocks(contended=True)
    told = [5e9, 6e9]
    clocks._main = SimpleNamespace(second=lambda: told.pop(0))
    assert [clocks.delay_beside(now) for now in (10.0, 10.0 + SLACK_S / 2, 10.0 + 2 * SLACK_S)] == [5.0, 5.0, 6.0]


@pytest.mark.parametrize(("turns", "wait"), [(1, 0.0), (20, 0.25)])
def test_a_wait_of_few_turns_may_have_been_a_sleep_and_nobody_can_tell(moment, turns, wait):
    """Linux counted it, and the task may have asked for it: it is left to what others may have cost."""

    class Told:
        pid = threading.get_native_id()
        told = [(1.0, 10), (1.25, 10 + turns)]

        def waits(self):
            return self.told.pop(0)

    meter = ThreadMeter(Told(), "1", None, "")
    moment.now = 1.0
    cost = meter.stop()
    assert (cost.wait, cost.delay) == (wait, 0.25)


@pytest.mark.parametrize("meanwhile", ["spawns", "asks"])
def test_a_hold_keeps_what_it_has_used_when_the_task_spawns_or_is_asked_for_its_waits(meanwhile):
    """Else a task that computes, and stores its result or spawns a greenlet before it yields, seems to have waited."""
    tracer = SwitchTracer(Clocks())
    try:
        meter = tracer.start("1", None, "")
        _spin(0.02)
        if meanwhile == "spawns":
            tracer.adopt(object(), meter)
        else:
            meter.waited()
        tracer.leave(meter, time.monotonic())
    finally:
        tracer.uninstall()
    assert meter.cpu >= 0.02 - SLACK_S


def test_of_the_last_hold_of_a_task_its_greenlet_is_told():
    """Where nobody looked meanwhile, the place of the greenlet is all that is known."""
    tracer = SwitchTracer(Clocks())
    told = []
    try:
        meter = tracer.start("1", None, "")
        tracer.long_hold_s, tracer.on_hold = 0.01, lambda meter, *_: told.append(meter.greenlet)
        _spin(0.02)
        cost = meter.stop()
    finally:
        tracer.uninstall()
    assert told == [tracer.getcurrent()]
    assert meter.greenlet is None
    assert cost.ended >= tracer.asked_at


@pytest.fixture
def moment(monkeypatch):
    """Return the seconds that the clocks of meters show: ``now``, and the processor time ``used``."""
    shown = SimpleNamespace(now=0.0, used=0.0)
    clock = SimpleNamespace(thread_time=lambda: shown.used, monotonic=lambda: shown.now)
    monkeypatch.setattr(meters, "time", clock)
    return shown


@pytest.fixture
def asked(monkeypatch, moment):
    """Return the moments at which the system was asked for the waits of a thread, which are 2 s at first, then 7."""
    moments: list[float] = []

    def waits(_):
        moments.append(moment.now)
        return (2.0, 10) if moment.now == 0.0 else (7.0, 10)

    monkeypatch.setattr(Clocks, "waits", waits)
    return moments


@pytest.fixture
def tracer(asked):
    """Return a tracer that goes by those clocks."""
    tracer = SwitchTracer(Clocks())
    yield tracer
    tracer.uninstall()


@pytest.mark.parametrize("green", [False, True])
@pytest.mark.parametrize(("used", "later"), [(0.5, []), (0.4, [0.5])])
def test_who_has_had_the_processor_all_the_time_is_not_asked_for_its_waits(request, asked, moment, green, used, later):
    meter = request.getfixturevalue("tracer").start("1", None, "") if green else ThreadMeter(Clocks(), "1", None, "")
    moment.now, moment.used = 0.5, used
    assert meter.waited() == (7.0 if later else 2.0)
    assert asked == [0.0, *later]


def test_what_a_thread_waited_before_it_was_asked_last_does_not_make_it_be_asked_again(asked, moment):
    meter = ThreadMeter(Clocks(), "1", None, "")
    moment.now = 0.5
    meter.waited()
    moment.now, moment.used = 1.0, 0.5
    assert meter.stop().wait == 0.0  # 5 s in no turn at all
    assert asked == [0.0, 0.5]


def test_a_hold_in_which_the_hub_may_have_slept_is_not_taken_for_a_wait():
    clocks = Clocks()
    tracer = SwitchTracer(clocks)
    try:
        meter = tracer.start("1", None, "")
        told = [(1.0, 10), (1.25, 11), (1.5, 31)]
        clocks.waits = lambda: told.pop(0)
        tracer.asked_at -= 1.0
        tracer.look()
        for _ in range(2):
            meter.since = tracer.asked_at = time.monotonic() - 1.0
            meter.asked = tracer.asked
            tracer.leave(meter, time.monotonic())
    finally:
        tracer.uninstall()
    assert meter.wait == pytest.approx(0.25)


def test_a_thread_is_asked_for_its_waits_only_once_it_was_without_a_processor_long_enough(tracer, asked, moment):
    """Often for a moment is as good as once: what nobody has asked for stays below 50 µs in all."""
    for moment.now, moment.used in ((1.0, 1.0), (2.0, 1.99998), (3.0, 2.99996), (4.0, 3.99994), (5.0, 4.9)):
        tracer.look()
    assert asked == [0.0, 4.0, 5.0]


def test_the_longest_hold_is_known_with_and_without_the_garbage_collected_in_it():
    tracer = SwitchTracer(Clocks())
    try:
        meter = tracer.start("1", None, "")
        _spin(0.02)
        meter.collected += 0.015
        cost = meter.stop()
    finally:
        tracer.uninstall()
    assert cost.collected == 0.015
    assert cost.hold >= 0.02 - SLACK_S
    assert cost.swept == pytest.approx(0.015)
    assert cost.cpu >= 0.02 - SLACK_S


def test_a_timer_is_put_off_at_looks_and_not_more_often_than_agreed(tracer, moment):
    calls = []
    tracer.put_off(lambda: calls.append(moment.now), 0.02)
    for moment.now in (1.0, 1.019, 1.021, 1.03, 1.05):
        tracer.look()
    tracer.put_off(None, 0.0)
    moment.now = 2.0
    tracer.look()
    assert calls == [1.0, 1.021, 1.05]


@pytest.mark.parametrize("step", [1.0, 0.0004])
def test_who_asks_often_hears_the_same_and_the_system_is_asked_once_in_a_millisecond(tracer, moment, step):
    """A task's backend and result are timed while it has the hub: what it has used is seen when it leaves that."""
    tracer.clocks.waits = lambda: (2.0, 10)
    meter = tracer.start("1", None, "")
    looks = []
    tracer.put_off(lambda: looks.append(moment.now), 0.0)
    for _ in range(5):
        moment.now, moment.used = moment.now + step, moment.used + step / 2
        meter.waited()
    tracer.leave(meter, moment.now)
    assert len(looks) == (5 if step > SLACK_S else 1)
    assert meter.cpu == pytest.approx(5 * step / 2, abs=SLACK_S)
    assert meter.cpu + meter.idle == pytest.approx(5 * step)


def test_what_was_used_after_the_system_was_asked_in_the_middle_of_a_hold_counts_too(tracer, moment):
    tracer.clocks.waits = lambda: (2.0, 10)
    meter = tracer.start("1", None, "")
    moment.now = moment.used = 0.002
    meter.waited()
    moment.now = moment.used = 0.0027
    tracer.leave(meter, moment.now)
    assert meter.cpu == pytest.approx(0.0027)


def test_what_others_used_before_a_greenlet_got_the_hub_is_not_its_own(tracer, moment):
    tracer.clocks.waits = lambda: (2.0, 10)
    meter = tracer.start("1", None, "")
    tracer.leave(meter, 0.0)
    moment.now = moment.used = 1.0
    tracer._switch("switch", (object(), meter.greenlet))
    moment.now, moment.used = 1.5, 1.1
    tracer.leave(meter, moment.now)
    assert meter.cpu == pytest.approx(0.1)
    assert meter.idle == pytest.approx(0.4)
