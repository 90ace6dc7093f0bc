"""The stacks of a worker: written by it whatever it does, cut down to what tells its slots apart."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_celerypool.agent import stacks
from pytest_celerypool.agent.stacks import SIGNAL, shorten
from pytest_celerypool.launch import stacks_of

#: A process whose threads begin and end frames all the time, and whose main thread does one thing.
PROCESS = """
import hashlib, sys, threading, time
from pytest_celerypool.agent.stacks import StackWriter

def deep(depth):
    return deep(depth - 1) if depth else 0

def endless():
    while True:
        deep(800)  # so deep that what its frames lie in is given back to the system

def waits():
    time.sleep(60)

def computes():
    while True:
        deep(5)

def stays_in_c():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

StackWriter(sys.argv[1]).register()
sys.setswitchinterval(1e-5)
for _ in range(int(sys.argv[3])):
    threading.Thread(target=endless, daemon=True).start()
print("ready", flush=True)
globals()[sys.argv[2]]()
"""


#: A process that cannot answer: its descriptors are closed, and the folder is gone.
SILENT = """
import os, shutil, signal, sys
from pytest_celerypool.agent.garbage import Collector
from pytest_celerypool.agent.stacks import StackWriter

StackWriter(sys.argv[1]).register()
Collector(sys.argv[1]).register()
os.closerange(3, 64)
shutil.rmtree(sys.argv[1])
signal.raise_signal(signal.SIGURG)
signal.raise_signal(signal.SIGWINCH)
print("goes on")
"""

#: What the stack of a thread begins with.
HEAD = "most recent call first"


@contextmanager
def process(folder: Path, does: str, threads: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROCESS, str(folder), does, str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


THREAD = """\
Current thread 0x01 (most recent call first):
  File "/app/proj.py", line 13 in query
  File "/app/proj.py", line 20 in task
  File "/lib/celery/app/trace.py", line 883 in __protected_call__
  File "/lib/celery/app/trace.py", line 564 in trace_task
  File "/lib/threading.py", line 1 in run
"""

IDLE = """\
Thread 0x02 (most recent call first):
  File "/lib/queue.py", line 1 in get
  File "/lib/thread.py", line 2 in _worker
  File "/lib/threading.py", line 3 in run
  File "/lib/threading.py", line 4 in _bootstrap
"""

GREENLET = """\
Greenlet 0x3 (most recent call last):
  File "/lib/gevent/greenlet.py", line 1, in run
  File "/lib/celery/app/trace.py", line 564, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/app/proj.py", line 13, in query
    time.sleep(60)
"""


def test_of_a_busy_thread_the_tasks_own_frames_are_kept():
    assert shorten(THREAD).splitlines() == THREAD.splitlines()[:3]


def test_threads_of_the_agent_are_no_slots():
    here = os.path.dirname(stacks.__file__)
    own = f"""Thread 0x00007f1bea3576c0 (most recent call first):
  File "{here}/detectors/fork/locks.py", line 3 in _watch_slot
  File "{here}/detectors/fork/locks.py", line 2 in _look"""
    assert shorten(own) == ""
    assert shorten(own + '\n  File "/usr/lib/python3.11/runpy.py", line 1 in _run') != ""


def test_of_an_idle_thread_the_top_is_kept():
    lines = shorten(IDLE).splitlines()
    assert lines[0].endswith("idle")
    assert lines[1:] == IDLE.splitlines()[1:3]


def test_of_a_greenlet_the_tasks_own_frames_are_kept():
    assert "proj.py" in shorten(GREENLET)
    assert "greenlet.py" not in shorten(GREENLET)


def test_each_slot_has_its_own_block():
    text = shorten(THREAD + "\n" + IDLE + "\n" + GREENLET)
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == [
        "Current",
        "Thread",
        "Greenlet",
    ]


def test_nothing_is_nothing():
    assert shorten("") == ""


def asked(folder: Path, pid: int, expected: str, threads: int = 1) -> str:
    """Ask a process until it is where it is going to, and its main thread was let run to tell of all threads."""
    deadline = time.monotonic() + 20.0
    text = ""
    while (expected not in text or text.count(HEAD) < threads) and time.monotonic() < deadline:
        text = stacks_of(folder, [pid])
    return text


def test_a_process_whose_threads_run_says_where_all_are_and_lives_on(tmp_path):
    """To follow their frames from the signal handler would crash it, mostly within twenty times."""
    with process(tmp_path, "waits", 3) as started:
        for _ in range(60):
            text = asked(tmp_path, started.pid, "in waits", threads=4)
            assert text.count(HEAD) == 4, text
            assert "in waits" in text
        assert started.poll() is None


def test_a_process_that_is_asked_again_while_it_answers_lives_on(tmp_path):
    """Its handler is called within itself then; what it raised there would end the task that it interrupts."""
    with process(tmp_path, "waits", 3) as started:
        for _ in range(500):
            os.kill(started.pid, SIGNAL)
            time.sleep(0.001)
        assert "in waits" in asked(tmp_path, started.pid, "in waits", threads=4)
        assert started.poll() is None


def test_the_handler_itself_is_not_shown(tmp_path):
    with process(tmp_path, "computes", 0) as started:
        text = asked(tmp_path, started.pid, "in computes")
    assert "in computes" in text
    assert "stacks.py" not in text


def test_a_process_that_c_code_keeps_says_where_its_main_thread_is(tmp_path):
    with process(tmp_path, "stays_in_c", 2) as started:
        text = asked(tmp_path, started.pid, "in stays_in_c")
    assert "in stays_in_c" in text
    assert text.count(HEAD) == 1


def test_a_question_that_cannot_be_answered_does_no_harm(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-c", SILENT, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert (ran.stdout, ran.stderr) == ("goes on\n", "")
