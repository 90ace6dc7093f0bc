"""What the detectors of fork bugs tell apart, without a fork."""

import asyncio
import logging.handlers
import os
import queue
import random
import sqlite3
import subprocess
import sys
import threading
import types
from concurrent.futures import Future

import pytest

from pytest_celerypool.agent.detectors.fork import connections as fork_connections
from pytest_celerypool.agent.detectors.fork import files as fork_files
from pytest_celerypool.agent.detectors.fork import locks as fork_locks
from pytest_celerypool.agent.detectors.fork import programs as fork_programs
from pytest_celerypool.agent.detectors.fork import rotations as fork_rotations
from pytest_celerypool.agent.detectors.fork import threads as fork_threads
from pytest_celerypool.agent.detectors.fork.bound import _REFUSALS
from pytest_celerypool.agent.detectors.fork.buffers import pending
from pytest_celerypool.agent.detectors.fork.databases import Databases
from pytest_celerypool.agent.detectors.fork.random_streams import EqualRandom, PythonStream
from pytest_celerypool.agent.detectors.holders import Reached
from pytest_celerypool.agent.frames import Frames


def stream_of(generator):
    return PythonStream(Reached(generator, types.ModuleType("m"), "generator", "m.generator", None, ()))


@pytest.mark.parametrize("draws", [1, 100, 5000])
@pytest.mark.parametrize("before", [0, 7])
def test_numbers_drawn_from_the_inherited_state_are_told_from_a_new_seed(draws, before):
    generator = random.Random(1)
    for _ in range(before):
        generator.random()
    stream = stream_of(generator)
    assert not stream.was_drawn()
    for _ in range(draws):
        generator.random()
    assert stream.was_drawn()
    generator.seed(2)
    generator.random()
    assert not stream.was_drawn()


def test_of_children_that_draw_from_one_state_all_but_the_first_are_told_of_it(tmp_path, monkeypatch):
    told = []
    children = []
    for pid in (1, 2, 3):
        watch = types.SimpleNamespace(
            folder=str(tmp_path), frames=Frames("/"), report=lambda *_, pid=pid, **__: told.append((pid, _[3][-1]))
        )
        children.append((pid, EqualRandom(watch), types.SimpleNamespace(id=f"task {pid}", task=None)))
    for pid, detector, run in children:
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        detector._drew(run, stream_of(random.Random(1)))
        detector._drew(run, stream_of(random.Random(pid)))  # a state of its own, for all but the first
        detector._notes.close()
    assert told == [(pid, f"drawn by task 1 in child 1 and by task {pid} in child {pid}") for pid in (2, 3)]


@pytest.mark.parametrize(
    "text",
    [
        "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use 'spawn'",
        "MongoClient opened before fork. May not be entirely fork-safe",
        "grpc client used after fork",
        "can only test a child process",
        "this pool was created in another process",
    ],
)
def test_libraries_that_refuse_after_a_fork_are_known_by_what_they_say(text):
    assert _REFUSALS.search(text)


@pytest.mark.parametrize("text", ["no fork of the repository", "forklift 3 is busy", "process 12 failed", "fork"])
def test_texts_that_only_mention_a_fork_are_not(text):
    assert not _REFUSALS.search(text)


def test_the_queues_that_a_thread_serves_are_found_through_its_target_and_its_object():
    class Flusher:
        def __init__(self):
            self.waiting = queue.Queue()

        def run(self):
            while self.waiting.get() is not None:
                pass

    def serve(tasks):
        tasks.get()

    flusher, tasks = Flusher(), queue.Queue()
    for target, arguments, expected in ((flusher.run, (), flusher.waiting), (serve, (tasks,), tasks)):
        thread = threading.Thread(target=target, args=arguments)
        assert any(one is expected for one in fork_threads._touched(thread))
        assert "get" in fork_threads._names(thread)


def test_the_loop_that_a_thread_runs_is_found_by_where_the_thread_is():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runs = threading.Event()
    loop.call_soon_threadsafe(runs.set)
    assert runs.wait(5)
    assert list(fork_threads._loops_of(sys._current_frames()[thread.ident])) == [loop]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()
    assert not list(fork_threads._loops_of(sys._getframe()))


@pytest.mark.parametrize(("ours", "alone"), [(True, True), (False, False)])
def test_a_thread_of_the_plugins_own_brings_a_task_nothing(monkeypatch, ours, alone):
    """It begins in whatever file of the plugin has a guard around what it runs."""
    detector = object.__new__(fork_threads.MissingThreads)
    detector.watch = types.SimpleNamespace(frames=types.SimpleNamespace(is_ours=lambda file: file == "agent/watch.py"))

    def frame_in(file):
        return types.SimpleNamespace(f_code=types.SimpleNamespace(co_filename=file), f_back=None)

    other = frame_in("agent/watch.py" if ours else "library.py")
    frames = {threading.main_thread().ident: frame_in("celery/__main__.py"), -1: other}
    monkeypatch.setattr(fork_threads.sys, "_current_frames", lambda: frames)
    monkeypatch.setattr(fork_threads.threading, "enumerate", lambda: [threading.main_thread()])
    monkeypatch.setattr(fork_threads, "_system_threads", lambda _otherwise: 2)
    assert detector._alone() is alone


def test_a_wait_in_vain_costs_no_walk_through_all_objects_unless_a_future_was_pending(monkeypatch):
    def walk():
        raise AssertionError("walked")

    monkeypatch.setattr(fork_threads.gc, "get_objects", walk)
    detector = object.__new__(fork_threads.MissingThreads)
    detector._futures = set()
    assert not detector._is_of_future(threading.Condition())


def test_futures_that_are_not_done_are_found():
    waiting, done = Future(), Future()
    done.set_result(1)
    found = fork_threads._pending_futures()
    assert any(each is waiting for each in found)
    assert not any(each is done for each in found)
    assert fork_threads._pending_futures({id(waiting)}) == [waiting]


def test_the_lock_that_a_line_waits_for_is_found_without_calling_anything():
    class Client:
        lock = threading.RLock()

        @property
        def broken(self):
            raise AssertionError("called")

        def here(self):
            with self.lock:
                return sys._getframe()

    client = Client()
    frame = client.here()
    # The frame is where it returned; the line of the with statement is one above.
    fake = types.SimpleNamespace(
        f_code=frame.f_code, f_lineno=frame.f_code.co_firstlineno + 1, f_locals={"self": client}, f_globals={}
    )
    assert any(value is Client.lock for _, value in fork_locks.named_on_line(fake))


def test_a_held_lock_is_told_from_a_free_one():
    for lock in (threading.Lock(), threading.RLock()):
        assert not fork_locks.is_held(lock)
        with lock:
            assert fork_locks.is_held(lock)


@pytest.fixture
def inherits(tmp_path, monkeypatch):
    """A user's module with a connection, seen at a fork, and what is told of its use by a task in a child."""

    def inherit(connection):
        module = types.ModuleType("users_ledger")
        module.__file__ = __file__
        module.ledger = connection
        monkeypatch.setitem(sys.modules, "users_ledger", module)
        told = []
        watch = types.SimpleNamespace(
            frames=Frames(os.path.dirname(__file__)),
            current=lambda: "a run",
            guarded=lambda _detector, callback: callback,
            report=lambda kind, _run, message, evidence, *_, **__: told.append((kind, message, evidence)),
        )
        detector = Databases(watch)
        detector._about_to_fork()
        detector.forked()
        return told

    return inherit


def ledger_at(path):
    connection = sqlite3.connect(path)
    connection.execute("create table entries (amount int)")
    connection.commit()
    return connection


def test_a_statement_over_a_connection_of_sqlite_from_before_the_fork_is_told_of_once(tmp_path, inherits):
    connection = ledger_at(tmp_path / "ledger.db")
    told = inherits(connection)
    connection.execute("insert into entries values (1)")
    connection.execute("insert into entries values (2)")
    connection.close()
    ((kind, message, evidence),) = told
    assert kind == "shared-connection"
    assert "users_ledger.ledger" in message
    assert 'connection.execute("insert into entries values (1)")' in evidence[0]


def test_a_database_in_memory_is_each_childs_own(inherits):
    connection = ledger_at(":memory:")
    told = inherits(connection)
    connection.execute("insert into entries values (1)")
    connection.close()
    assert told == []


def test_whom_a_connection_tells_of_its_statements_is_told_on(tmp_path, inherits):
    connection, heard = ledger_at(tmp_path / "ledger.db"), []
    connection.set_trace_callback(heard.append)
    told = inherits(connection)
    connection.execute("insert into entries values (1)")
    connection.close()
    assert "insert into entries values (1)" in heard
    assert told == []


def test_a_connection_with_a_row_factory_is_seen_all_the_same(tmp_path, inherits):
    connection = ledger_at(tmp_path / "ledger.db")
    connection.row_factory = lambda _cursor, row: list(row)
    told = inherits(connection)
    connection.execute("select * from entries")
    connection.close()
    assert [kind for kind, *_ in told] == ["shared-connection"]


def test_a_connection_that_is_closed_before_the_fork_is_nothing(tmp_path, inherits):
    connection = ledger_at(tmp_path / "ledger.db")
    connection.close()
    assert inherits(connection) == []


def test_descriptors_are_listed_with_what_they_are():
    from pytest_celerypool.agent.detectors.fork.connections import Inherited, descriptors, is_same

    reading, writing = os.pipe()
    try:
        found = dict(descriptors())
        assert reading in found
        assert is_same(Inherited(reading, found[reading].st_ino, ""))
        assert not is_same(Inherited(reading, found[reading].st_ino + 1, ""))
    finally:
        os.close(reading)
        os.close(writing)


@pytest.fixture
def program():
    made = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield made
    made.communicate()


@pytest.fixture
def holders():
    """The processes that have the pipe of the program open."""
    return [1]


@pytest.fixture
def programs(program, holders, monkeypatch):
    """The kinds of what a detector tells that has found a program in a child."""
    told = []
    frames = types.SimpleNamespace(user_frame=lambda frame: frame, place=str, stack=lambda frame: [])
    watch = types.SimpleNamespace(
        frames=frames,
        current=lambda: types.SimpleNamespace(marks={}),
        guarded=lambda _, callback: callback,
        report=lambda *a, **_: told.append(a[0]),
    )
    monkeypatch.setattr(fork_programs, "holders_of", lambda link: holders)
    monkeypatch.setattr(fork_programs.family, "main_pid", lambda: 1)
    monkeypatch.setattr(fork_programs, "made_at", lambda frames, reached: [])
    reached = Reached(program, types.ModuleType("m"), "program", "m.program", None, ())
    monkeypatch.setattr(fork_programs, "walk", lambda frames, wanted: [reached])
    detector = fork_programs.Programs(watch)
    detector.forked()
    yield told
    detector.remove()
    assert "readline" not in vars(program.stdout)


@pytest.mark.parametrize("ask", ["poll", "wait"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_asks_how_a_program_of_its_parent_ended_is_told_of(programs, program, ask):
    """The system refuses (ECHILD), and subprocess says 0."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            statuses = [getattr(program, ask)() for _ in range(2)]
            status = 7 if statuses == [0, 0] and programs == ["fork-bound"] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_child_that_asks_whether_a_program_runs_and_hears_that_it_does_is_not(programs, program):
    assert program.poll() is None
    assert programs == []


@pytest.mark.parametrize(("holders", "kinds"), [([1, 7], ["shared-connection"]), ([1], [])])
def test_an_answer_of_a_program_from_before_the_fork_is_reported_where_another_child_may_read_it(
    program, programs, kinds
):
    program.stdin.write("asked\nonce more\n")
    program.stdin.flush()
    assert [program.stdout.readline() for _ in range(2)] == ["asked\n", "once more\n"]
    assert programs == kinds


@pytest.mark.parametrize(
    ("mode", "written", "expected"),
    [("w", ["abc"], 3), ("w", ["abc", "é"], 5), ("w", [], 0), ("wb", [b"abc"], 3), ("w+b", [b"abc"], 3), ("r", [], 0)],
)
def test_what_a_buffer_holds_is_counted_and_stays_there(tmp_path, mode, written, expected):
    path = tmp_path / "file"
    path.write_bytes(b"")
    with open(path, mode, **({} if "b" in mode else {"encoding": "utf-8", "newline": ""})) as file:
        for each in written:
            file.write(each)
        assert pending(file) == expected
        assert path.read_bytes() == b""
        file.flush()
        assert pending(file) == 0
    assert pending(file) == 0


def test_what_has_no_position_holds_nothing_that_can_be_counted():
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as file:
        file.write(b"abc")
        assert pending(file) == 0


@pytest.mark.parametrize(
    ("name", "flags", "asked"),
    [
        ("prices.csv", 0, True),
        ("pymp-notes", 0, True),
        ("log", os.O_APPEND, False),
        ("pym-4711-x1y_2z", 0, False),  # mapped memory that billiard shares with its children
    ],
)
def test_only_files_that_are_read_by_position_are_asked_for_it_at_every_task(tmp_path, monkeypatch, name, flags, asked):
    fd = os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | flags)
    os.unlink(tmp_path / name)
    monkeypatch.setattr(fork_files, "descriptors", lambda: [(fd, os.fstat(fd))])
    detector = fork_files.Files(types.SimpleNamespace(bind=lambda: None, guarded=lambda _, callback: callback))
    assert detector.resting == {"started", "ended"}
    detector.forked()
    detector.remove()
    os.close(fd)
    assert detector.resting == (set() if asked else {"started", "ended"})


class Locking(logging.handlers.RotatingFileHandler):
    """One that excludes other processes in a way of its own."""

    def doRollover(self):  # noqa: N802 - the library's name
        super().doRollover()


@pytest.mark.parametrize(
    ("cls", "in_child", "others", "kinds"),
    [
        (logging.handlers.RotatingFileHandler, True, [1, 77], ["shared-file"]),
        (logging.handlers.RotatingFileHandler, True, [1], []),  # the main process alone: it runs no task
        (logging.handlers.RotatingFileHandler, False, [77], []),
        (Locking, True, [77], []),
    ],
)
def test_a_log_that_is_renamed_while_another_child_has_it_open_is_told_of(
    tmp_path, monkeypatch, cls, in_child, others, kinds
):
    told = []
    (tmp_path / "logs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "logs")
    open_elsewhere = os.path.realpath(tmp_path / "logs" / "audit.log")
    monkeypatch.setattr(fork_rotations, "holders_of", lambda link: others if link == open_elsewhere else [])
    monkeypatch.setattr(fork_rotations.family, "main_pid", lambda: 1)
    detector = fork_rotations.Rotations(
        types.SimpleNamespace(
            frames=Frames(str(tmp_path)),
            guarded=lambda _detector, callback: callback,
            recorder=types.SimpleNamespace(current=lambda: "a run"),
            report=lambda kind, *_, **__: told.append(kind),
        )
    )
    detector.begin()
    if in_child:
        detector.forked()
    handler = cls(tmp_path / "link" / "audit.log", backupCount=1)
    handler.doRollover()
    handler.doRollover()
    handler.close()
    detector.remove()
    assert told == kinds


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not tell")
def test_the_other_processes_that_have_something_open_are_found(tmp_path, monkeypatch):
    path = tmp_path / "audit.log"
    with path.open("w") as file:
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file.fileno()])
    try:
        monkeypatch.setattr(fork_connections.family, "members", lambda: [os.getpid(), other.pid])
        pipe = os.fstat(other.stdin.fileno()).st_ino
        assert fork_connections.holders_of(str(path)) == [other.pid]
        assert fork_connections.holders_of(f"pipe:[{pipe}]") == [other.pid]
        assert fork_connections.holders_of(f"socket:[{pipe}]") == []
        assert fork_connections.holders_of(str(tmp_path / "none")) == []
    finally:
        other.communicate(b"\n", timeout=10)


REFRESHES = """
import threading

def refresh():
    timer = threading.Timer(60, refresh)

class Cache:
    def refresh(self):
        self.timer = threading.Timer(60, self.refresh)

    def close(self):
        self.timer = None

def once():
    return 1
"""


@pytest.mark.parametrize(
    ("name", "why"),
    [("refresh", "starts the next one each time"), ("Cache", "starts the next one each time"), ("once", None)],
)
def test_a_timer_that_starts_the_next_one_is_as_a_thread_that_never_ends(name, why):
    module = {}
    exec(REFRESHES, module)
    function = module[name]().refresh if name == "Cache" else module[name]
    assert fork_threads._starts_again(threading.Timer(60, function)) == why


def test_a_thread_that_is_no_timer_may_end():
    module = {}
    exec(REFRESHES, module)
    assert fork_threads._starts_again(threading.Thread(target=module["refresh"])) is None
