"""Which tasks a marker speaks of, and how messages name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pytest_celerypool.errors import did_you_mean
from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import matches
from pytest_celerypool.pools import Pool
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict import Failure

#: How many names a message lists before it only counts.
_MOST_NAMES = 10
_LONGEST_ARGUMENTS = 60


def applies(pools: tuple[Pool, ...] | None, pool: str) -> bool:
    """Return whether a marker with that ``pools=`` speaks of the pool of that name."""
    return pools is None or any(each.name == pool for each in pools)


def select(pattern: str, tasks: Iterable[TaskEntry]) -> list[TaskEntry]:
    """Return the tasks that a ``tasks=`` pattern speaks of.

    A task that replaced itself goes by both names: it is still one task id.
    """
    return [
        entry
        for entry in tasks
        if matches(pattern, entry.task) or any(matches(pattern, span.task) for span in entry.spans)
    ]


def spans_of(pattern: str, tasks: Iterable[TaskEntry]) -> list[Span]:
    """Return the executions that a ``tasks=`` pattern speaks of, task by task."""
    return [span for entry in tasks for span in entry.spans if matches(pattern, span.task)]


def no_match(marker: str, pattern: str, tasks: Sequence[TaskEntry], pool: str) -> Failure:
    """Return the failure of a marker that speaks of no task: left alone it would pass for ever, unnoticed.

    :param marker: its name.
    :param pattern: its ``tasks=``.
    :param tasks: all tasks of the test, none of which matches.
    :param pool: the name of the pool.
    """
    told = f"{marker}(tasks={pattern!r}) under {pool}: "
    if not tasks:
        return Failure(f"{told}the test ran no task at all: it would have said nothing.")
    ran = Counter(entry.task for entry in tasks)
    own = " '*' leaves out Celery's own tasks." if pattern == "*" else ""
    return Failure(
        f"{told}no task of the test matches: it would have said nothing. "
        f"What ran instead: {names(ran)}.{own}{_meant(pattern, ran)}"
    )


def _meant(pattern: str, ran: Iterable[str]) -> str:
    """Return a hint; the name of the function without its module is too far off for a comparison of letters."""
    whole = [name for name in ran if name.endswith(f".{pattern}")]
    return f" Did you mean {whole[0]!r}?" if whole else did_you_mean(pattern, ran)


def names(counted: Counter[str]) -> str:
    """Return the names of tasks with how often each is there, where that is more than once."""
    shown = [name if count == 1 else f"{name} ({count} times)" for name, count in counted.items()]
    more = [f"and {len(shown) - _MOST_NAMES} more"] if len(shown) > _MOST_NAMES else []
    return ", ".join(shown[:_MOST_NAMES] + more)


def short_id(task_id: str) -> str:
    """Return as much of a task id as tells the tasks of one test apart."""
    return task_id[:8]


def label(entry: TaskEntry) -> str:
    """Return a task as messages name it: ``proj.tasks.add[1a2b3c4d](2, 3)``, without arguments until it began."""
    begun = [span for span in entry.spans if span.task == entry.task and span.started is not None]
    return span_label(begun[0]) if begun else f"{entry.task}[{short_id(entry.id)}]"


def span_label(span: Span) -> str:
    """Return an execution as messages name it: the name, short id and arguments of its task."""
    arguments = f"({_arguments(span)})" if span.started is not None else ""
    return f"{span.task}[{short_id(span.id)}]{arguments}"


def _arguments(span: Span) -> str:
    keywords = span.kwargs if isinstance(span.kwargs, dict) else {}
    parts = [_positional(span.args), *(f"{name}={_show(value)}" for name, value in keywords.items())]
    if isinstance(span.kwargs, str):  # its text stands for no value
        parts.append(f"**{span.kwargs}")
    text = " ".join(", ".join(part for part in parts if part).split())
    return shorten(text, _LONGEST_ARGUMENTS)


def _positional(args: Any) -> str:
    if isinstance(args, tuple | list):
        return ", ".join(_show(value) for value in args)
    text = str(args or "")
    inner = text.removeprefix("(").removesuffix(")") if text.startswith("(") else text
    return inner.removesuffix(",")


def _show(value: Any) -> str:
    return "…" if value is Ellipsis else repr(value)  # so Celery ends arguments that are too long for a message


def shorten(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters: what is too much is left out in the middle."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
