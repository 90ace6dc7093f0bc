"""Tell whether what a thread or greenlet does will ever end by itself, from where it is.

A thread that sends one mail ends; a thread in ``while True`` does not. Both are alive for a while after the task that
started them, so the time alone does not tell them apart; the loop does.
"""

from __future__ import annotations

import ast
from types import CodeType, FrameType
from typing import Any

from pytest_celerypool.agent.detectors.holders import attributes_of
from pytest_celerypool.agent.syntax import definition_of

#: Library functions that wait for what may never come: end of the file's path, function, what it waits for.
_IDLE = (
    ("concurrent/futures/thread.py", "_worker", "waits for work of an executor that nobody shuts down"),
    ("socketserver.py", "serve_forever", "serves for ever"),
    ("multiprocessing/pool.py", "worker", "waits for work of a pool that nobody closes"),
    ("multiprocessing/pool.py", "_handle_tasks", "waits for work of a pool that nobody closes"),
    ("multiprocessing/pool.py", "_handle_results", "waits for work of a pool that nobody closes"),
)

_FOR_AN_ITEM = "waits for ever for an item of a queue"

#: The names of queues that are written in C: Python's ``queue.SimpleQueue``, and most of gevent's.
_QUEUES = frozenset({"SimpleQueue", "Queue", "UnboundQueue", "JoinableQueue", "PriorityQueue", "LifoQueue"})

#: Libraries that wait in a loop, be it with a limit: whether what is waited for comes, their loop does not tell.
_WAITING = ("-packages/eventlet/", "-packages/gevent/")

#: Methods of a flag that somebody else has to set.
_FLAGS = frozenset({"is_set", "isSet", "wait"})


def endless(frame: FrameType | None) -> str | None:
    """Return why what runs in `frame` does not end by itself; ``None`` if it may.

    :param frame: the innermost frame of a thread or greenlet.
    """
    why = None if frame is None else _in_queue(frame)
    while frame is not None and why is None:
        why = _idle(frame) or _in_loop(frame)
        frame = frame.f_back
    return why


def queue_of_executor(frame: FrameType | None) -> Any:
    """Return the queue that an executor's thread or greenlet takes its work from; ``None`` if it is not one's.

    :param frame: its innermost frame.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_worker" and code.co_filename.replace("\\", "/").endswith(_IDLE[0][0]):
            return frame.f_locals.get("work_queue")
        frame = frame.f_back
    return None


def _idle(frame: FrameType) -> str | None:
    code = frame.f_code
    filename, name = code.co_filename.replace("\\", "/"), code.co_name
    for end, function, why in _IDLE:
        if name == function and filename.endswith(end):
            # An executor's thread that runs somebody's function has that above it: it was looked at before.
            return why if not _runs_work(frame) else None
    if name == "get" and filename.endswith(("/queue.py", "gevent/queue.py", "eventlet/queue.py")):
        return _FOR_AN_ITEM if frame.f_locals.get("timeout") is None else None
    if name == "run_forever" and filename.endswith("asyncio/base_events.py"):
        caller = frame.f_back
        if caller is None or caller.f_code.co_name != "run_until_complete":
            return "runs an event loop that nobody stops"
    if name == "wait" and filename.endswith("/threading.py") and frame.f_locals.get("timeout") is None:
        caller = frame.f_back
        # Not a future's result or the end of another thread: these come.
        if caller is not None and caller.f_code.co_name == "wait" and caller.f_code.co_filename == code.co_filename:
            return "waits for an event that nobody sets"
    return None


def _in_queue(frame: FrameType) -> str | None:
    """Return what a frame waits for whose line takes an item of a queue that is written in C, and so has no frame."""
    function = definition_of(frame.f_code)
    for node in ast.walk(function) if function is not None else ():
        match node:
            case ast.Call(func=ast.Attribute(value=queue, attr="get"), args=[] | [_], keywords=[]) if (
                node.lineno == frame.f_lineno
            ):
                kind = type(value_of(queue, frame))
                if kind.__name__ in _QUEUES and kind.__module__.partition(".")[0] in ("_queue", "gevent"):
                    return _FOR_AN_ITEM
    return None


def _runs_work(frame: FrameType) -> bool:
    """Whether an executor's thread has an item in its hands."""
    return frame.f_locals.get("work_item") is not None or frame.f_locals.get("task") is not None


def _in_loop(frame: FrameType) -> str | None:
    code: CodeType = frame.f_code
    if any(library in code.co_filename.replace("\\", "/") for library in _WAITING):
        return None
    function = definition_of(code)
    if function is None:
        return None
    line = frame.f_lineno
    loops = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.While) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    for loop in sorted(loops, key=lambda node: -node.lineno):
        why = endless_loop(loop, frame)
        if why is not None:
            return why
    return None


def endless_loop(loop: ast.While, frame: FrameType | None = None) -> str | None:
    """Return why a loop does not end by itself: it has no exit, or one that only a flag of somebody else's opens.

    :param frame: where it runs; without it a bare name or attribute is taken for a flag.
    """
    flags = _Flags(loop, frame)
    if not (isinstance(loop.test, ast.Constant) and loop.test.value):
        goes_on = flags.is_one(loop.test) and flags.truth(loop.test) is not False
        return "loops until a flag is set that nobody sets" if goes_on else None
    exits = list(_exits(loop.body, ()))
    if not exits:
        return "loops without an exit"
    if any(tests and all(flags.truth(test) for test in tests) for tests in exits):
        return None  # it has been told to end, and has not come there yet
    if all(any(flags.is_one(test) for test in tests) for tests in exits):
        return "loops until a flag is set that nobody sets"
    return None


def _exits(body: list[Any], tests: tuple[ast.expr, ...], inner: bool = False) -> Any:
    """Yield, for each ``break`` and ``return`` that leaves the loop, the tests that it depends on."""
    for node in body:
        if isinstance(node, ast.Return) or (isinstance(node, ast.Break) and not inner):
            yield tests
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        else:
            deeper = (*tests, node.test) if isinstance(node, ast.If | ast.While) else tests
            within = inner or isinstance(node, ast.For | ast.While | ast.AsyncFor)
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _exits(list(getattr(node, field, ()) or ()), deeper, within)


class _Flags:
    """Tells which conditions of a loop are flags, which the loop itself does not change."""

    def __init__(self, loop: ast.While, frame: FrameType | None) -> None:
        self._frame = frame
        self._stored = {
            ast.unparse(node)
            for node in ast.walk(loop)
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store)
        }

    def is_one(self, test: ast.expr) -> bool:
        """Whether a condition is a flag."""
        if isinstance(test, ast.UnaryOp):
            return self.is_one(test.operand)
        if isinstance(test, ast.BoolOp):
            return all(self.is_one(value) for value in test.values)
        if isinstance(test, ast.Compare):
            constants = all(isinstance(each, ast.Constant | ast.Name | ast.Attribute) for each in test.comparators)
            return constants and isinstance(test.left, ast.Name | ast.Attribute) and self._is_left_alone(test.left)
        if isinstance(test, ast.Call):
            return isinstance(test.func, ast.Attribute) and test.func.attr in _FLAGS
        return isinstance(test, ast.Name | ast.Attribute) and self._is_left_alone(test) and self._is_bool(test)

    def truth(self, test: ast.expr) -> bool | None:
        """Return whether a condition holds now, ``None`` where nothing tells without code of the user's."""
        if self._frame is None:
            return None
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self.truth(test.operand)
            return None if inner is None else not inner
        if isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and test.func.attr in _FLAGS:
            return _is_set(value_of(test.func.value, self._frame))
        value = value_of(test, self._frame)
        return value if value is True or value is False else None

    def _is_left_alone(self, test: ast.expr) -> bool:
        return ast.unparse(test) not in self._stored

    def _is_bool(self, test: ast.expr) -> bool:
        """Whether its value is a plain truth value: what is worked off in the loop (``while items``) is none."""
        if self._frame is None:
            return True
        value = value_of(test, self._frame)
        return value is True or value is False


def value_of(node: ast.expr, frame: FrameType) -> Any:
    """Return the value of a name, or of an attribute of one, where a frame is; ``None`` if it is not known."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        return attributes_of(value_of(node.value, frame)).get(node.attr)
    return None


def _is_set(event: Any) -> bool | None:
    """Whether an event of Python's or of a library of a pool is set; ``None`` if it is none."""
    known = type(event).__name__ == "Event" and type(event).__module__.startswith(("threading", "gevent.", "eventlet."))
    return bool(event.is_set()) if known else None
