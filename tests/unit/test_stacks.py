"""The stacks of a worker, cut down to what tells its slots apart."""

from pytest_celerypool.agent.stacks import shorten

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
