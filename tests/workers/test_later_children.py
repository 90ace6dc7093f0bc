"""Later children of a prefork worker in the test's process: with the state of its start, and no lock of a thread's."""

import os
import signal

import pytest

CONTRIB = "-pcelery.contrib.pytest"

APP = """
import os
import threading
import time
from celery import Celery

app = Celery("proj")
RATE = 1
lock = threading.Lock()

@app.task
def take():
    "Whether the lock is free, in this child."
    if not lock.acquire(timeout=2):
        return False
    lock.release()
    return True

@app.task
def look():
    return [RATE, os.getpid(), os.getppid()]

@app.task
def die():
    os.kill(os.getpid(), 9)

@app.task
def leave():
    os._exit(3)

class DiesAfterwards(app.Task):
    def on_success(self, *_):
        os.kill(os.getpid(), 9)

@app.task(base=DiesAfterwards)
def answer():
    return 7

@app.task(time_limit=0.5)
def overstay():
    time.sleep(30)
"""

SUITE = """
import contextlib
import os
import signal
import threading
import time

import psutil
import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.signals import worker_process_init

import proj
from proj import answer, app, die, leave, look, overstay, take

pytestmark = [
    pytest.mark.celery_pools("prefork", launch="inprocess", concurrency=1),
    pytest.mark.celery_allow("child-died", reason="it is what these tests are about"),
]
one_task_a_child = pytest.mark.celery_pools(
    "prefork", launch="inprocess", concurrency=1, options="--max-tasks-per-child 1"
)

@contextlib.contextmanager
def held_by_another_thread(lock):
    held, done = threading.Event(), threading.Event()
    def hold():
        with lock:
            held.set()
            done.wait(60)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join()

@one_task_a_child
def test_a_lock_that_another_thread_holds_at_a_later_fork(celery_pool_worker):
    with held_by_another_thread(proj.lock):
        assert [take.delay().get() for _ in range(4)] == [True] * 4

@pytest.mark.parametrize("end", [die, leave, overstay], ids=["killed", "left", "time-limit"])
def test_a_lock_that_another_thread_holds_when_a_child_is_lost(celery_pool_worker, end):
    with held_by_another_thread(proj.lock):
        with pytest.raises(Exception):
            end.delay().get()
        assert take.delay().get() is True

@pytest.mark.parametrize("end, error, text", [
    (die, WorkerLostError, "signal 9 .SIGKILL."),
    (leave, WorkerLostError, "exitcode 3"),
    (overstay, TimeLimitExceeded, "0.5"),
], ids=["killed", "left", "time-limit"])
def test_the_end_of_a_later_child(celery_pool_worker, end, error, text):
    for _ in range(3):  # the first came from this process, the others did not
        began = time.monotonic()
        with pytest.raises(error, match=text):
            end.delay().get()
        assert time.monotonic() - began < 4  # Celery's own look for it is every five seconds

@one_task_a_child
def test_later_children_see_what_was_there_at_the_start(celery_pool_worker, monkeypatch):
    monkeypatch.setattr(proj, "RATE", 10)
    monkeypatch.chdir("/")
    seen = [look.delay().get() for _ in range(4)]
    assert [rate for rate, _, _ in seen] == [1] * 4
    assert len({pid for _, pid, _ in seen}) == 4
    assert seen[0][2] == os.getpid()
    assert os.getpid() not in [parent for _, _, parent in seen[2:]]

@one_task_a_child
def test_after_a_restart_they_see_what_is_there_then(celery_pool_worker, monkeypatch):
    monkeypatch.setattr(proj, "RATE", 10)
    celery_pool_worker.restart()
    assert [look.delay().get()[0] for _ in range(4)] == [10] * 4

@pytest.fixture
def starts():
    def started(**_):
        open(f"started-{os.getpid()}", "w").close()
    worker_process_init.connect(started, weak=False)
    yield
    worker_process_init.disconnect(started)

@one_task_a_child
def test_every_child_sends_its_signal_and_has_the_name_of_its_slot(starts, celery_pool_worker):
    pids = [look.delay().get()[1] for _ in range(4)]
    celery_pool_worker.drain()
    assert all(os.path.exists(f"started-{pid}") for pid in pids)
    assert [(span.slot, span.pid) for span in celery_pool_worker.spans] == [("child 0", pid) for pid in pids]
    assert all(span.cpu is not None and span.memory_after for span in celery_pool_worker.spans)

def test_a_pool_that_grows(celery_pool_worker):
    with held_by_another_thread(proj.lock):
        app.control.pool_grow(2, destination=[celery_pool_worker.hostname])
        deadline = time.monotonic() + 20
        while len(celery_pool_worker.launched.processes()) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(celery_pool_worker.launched.processes()) == 4
        taken = [take.delay() for _ in range(9)]
        assert all(each.get() for each in taken)

def test_a_fork_server_that_is_killed_costs_its_children_alone(celery_pool_worker):
    with pytest.raises(WorkerLostError):
        die.delay().get()
    server = psutil.Process(look.delay().get()[2])
    assert server.ppid() == os.getpid()
    server.kill()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(server.pid) and server.status() != "zombie" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [look.delay().get()[0] for _ in range(3)] == [1] * 3
    with pytest.raises(WorkerLostError):
        die.delay().get()
    assert look.delay().get()[0] == 1

def test_a_child_that_dies_after_it_stored_a_result_loses_no_task(celery_pool_worker):
    assert answer.delay().get() == 7
    celery_pool_worker.drain()
    assert [span.state for span in celery_pool_worker.spans] != ["LOST"]

def test_signals_of_the_process_group_do_not_end_it(celery_pool_worker):
    with pytest.raises(WorkerLostError):
        die.delay().get()
    parent = look.delay().get()[2]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(parent, number)
    with pytest.raises(WorkerLostError):
        die.delay().get()
    assert look.delay().get()[2] == parent

def test_no_process_is_left_when_it_stops(celery_pool_worker):
    left = []
    for _ in range(2):
        with pytest.raises(WorkerLostError):
            die.delay().get()
        look.delay().get()
        celery_pool_worker.stop()
        left.append([child.pid for child in psutil.Process().children(recursive=True)])
        celery_pool_worker.restart()
    assert left[0] == left[1]  # those that the host itself has started, such as its broker
"""

TESTS = [line[4:].partition("(")[0] for line in SUITE.splitlines() if line.startswith("def test_")]


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(proj=APP, test_it=SUITE)
    return shared_project.run("--celery-app=proj:app", "--celery-timeout=8")


@pytest.mark.parametrize("test", TESTS)
def test_passes(run, test):
    ended = {name: outcome for name, outcome in run.outcomes().items() if name.partition("[")[0] == test}
    assert ended, run.output
    assert set(ended.values()) == {"passed"}, "\n".join(run.failure(name) for name in ended if ended[name] == "failed")


def test_nothing_is_left(run, shared_project):
    assert not shared_project.remains()


RELOADED = """
import threading
import pytest
import proj

pytest_plugins = ["celery.contrib.pytest"]

@pytest.fixture
def tasks(celery_app):
    @celery_app.task(name="look", shared=False)
    def look():
        taken = proj.lock.acquire(timeout=2)
        if taken:
            proj.lock.release()
        return [proj.RATE, taken]

    @celery_app.task(name="die", shared=False)
    def die():
        proj.os.kill(proj.os.getpid(), 9)

    return celery_app.tasks

@pytest.mark.parametrize("concurrency", [1, 2])
def test_it(tasks, celery_app, celery_worker_parameters, celery_worker, monkeypatch, concurrency):
    def lose_a_child():
        with pytest.raises(Exception, match="signal 9"):
            tasks["die"].delay().get(timeout=10)

    def looks():
        return [tasks["look"].delay().get(timeout=10) for _ in range(4)]

    monkeypatch.setattr(proj, "RATE", 2)
    with proj.lock:
        lose_a_child()
        lose_a_child()
        assert looks() == [[1, True]] * 4

    @celery_app.task(name="late", shared=False)
    def late():
        return proj.RATE

    celery_worker.reload()
    monkeypatch.setattr(proj, "RATE", 3)
    assert late.delay().get(timeout=10) == 2
    with proj.lock:
        lose_a_child()
        lose_a_child()
        assert looks() == [[2, True]] * 4
        assert late.delay().get(timeout=10) == 2

@pytest.fixture
def celery_worker_parameters(concurrency):
    return {"concurrency": concurrency}
"""


@pytest.mark.slow
def test_a_reload_is_the_beginning_that_later_children_see(project):
    project.write(proj=APP, test_it=RELOADED)
    ended = project.run("--celery-pools=prefork", "--celery-findings=off")
    assert set(ended.outcomes().values()) == {"passed"}, ended.output
    assert not project.remains()


KILLED = """
import os
import pathlib
import pytest
from proj import die, look

pytestmark = pytest.mark.celery_pools("prefork", launch="inprocess", concurrency=2)

def test_it(celery_pool_worker):
    for _ in range(3):
        with pytest.raises(Exception):
            die.delay().get()
    pathlib.Path("running").write_text(str(os.getpid()))
    look.delay().get()
    die.delay()
    import time
    time.sleep(60)
"""


@pytest.mark.gate("9")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_fork_server_ends_with_a_host_that_is_killed(project, until, number):
    project.write(proj=APP, test_it=KILLED)
    process = project.start("--celery-app=proj:app", "--celery-findings=off")
    try:
        assert until(lambda: (project.path / "running").exists() and (project.path / "running").read_text()), (
            project.output()
        )
        os.kill(int((project.path / "running").read_text()), number)
        process.wait(30)
    finally:
        process.kill()
    assert until(lambda: not project.remains()), project.remains()


CONNECTED = """
import os
import socket
import pytest
import proj
from proj import die, read

pytestmark = [
    pytest.mark.celery_pools("prefork", launch="inprocess", concurrency=1),
    pytest.mark.celery_allow("child-died", reason="it is what these tests are about"),
]

@pytest.fixture
def connected():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        proj.client = client
        there, _ = server.accept()
        with there:
            yield there

def lose(times):
    for _ in range(times):
        with pytest.raises(Exception, match="SIGKILL"):
            die.delay().get()

@pytest.mark.parametrize("times", [0, 2])
def test_no_task_elsewhere_has_it(connected, celery_pool_worker, times):
    proj.client.close()  # the fork server has it still
    lose(times)
    connected.sendall(b"x")
    assert read.delay().get() == "x"

@pytest.mark.parametrize("times", [0, 2])
def test_the_process_of_the_test_has_it_too(connected, celery_pool_worker, times):
    lose(times)
    connected.sendall(b"x")
    assert read.delay().get() == "x"
    print("here:", os.getpid(), "(the parent)")
"""


def test_a_fork_server_is_none_of_those_that_share_a_connection(project):
    project.write(
        proj=APP
        + """
client = None

@app.task
def read():
    return client.recv(1).decode()
""",
        test_it=CONNECTED,
    )
    ended = project.run("--celery-app=proj:app")
    alone, shared = "test_no_task_elsewhere_has_it", "test_the_process_of_the_test_has_it_too"
    assert ended.outcomes() == {
        f"{alone}[prefork-0]": "passed",
        f"{alone}[prefork-2]": "passed",
        f"{shared}[prefork-0]": "failed",
        f"{shared}[prefork-2]": "failed",
    }, ended.output
    for times in (0, 2):
        text = ended.failure(f"{shared}[prefork-{times}]")
        assert "and so have 1 other process:" in " ".join(text.split())
        assert f"(this child), {text.partition('here: ')[2].partition(' ')[0]} (the parent)" in text
