"""Compare how the tasks of one test ended under several pools: ``celery_expect(agree=…)``.

Each pool's run of the test yields facts, plain data that travels with its report; whoever has the reports of
all pools compares them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.verdict.matching import select, shorten

#: Name of a task to its ends, one for each task id, in an order that does not depend on when they ended.
Facts = dict[str, list[dict[str, Any]]]

#: How many different ends of one task a side shows.
_MOST_ENDS = 5
_LONGEST_RESULT = 100
#: How much of what all results begin with is kept before the place where they begin to differ.
_CONTEXT = 20

#: The text of a result in whose place the backend has something else.
OVERWRITTEN = "(overwritten)"

#: Where an object is in memory says nothing of the object, and differs between any two processes.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")


def facts(tasks: Iterable[TaskEntry], fields: Sequence[str], results: Mapping[str, str], pattern: str) -> Facts:
    """Return how the tasks of a test ended, in a form that survives JSON.

    :param tasks: all tasks of the test.
    :param fields: what is compared: any of ``state``, ``retries``, ``exception`` and ``result``.
    :param results: task id to the text of its result as it was stored, :data:`OVERWRITTEN` if that is lost: then the
        results of this task's name are not compared, under no pool.
    :param pattern: the ``tasks=`` of the marker.
    """
    found: Facts = {}
    for entry in select(pattern, tasks):
        end = _end(entry, results)
        found.setdefault(entry.task, []).append({name: end[name] for name in fields})
    return {name: sorted(ends, key=_key) for name, ends in found.items()}


def _end(entry: TaskEntry, results: Mapping[str, str]) -> dict[str, Any]:
    last = entry.spans[-1] if entry.spans and not entry.outstanding else None
    waiting = "not registered" if entry.unknown else "not ended"
    result = results.get(entry.id)
    return {
        "state": waiting if last is None else last.state,
        "retries": max((span.retries for span in entry.spans), default=0),
        "exception": None if last is None or last.error is None else last.error["type"],
        "result": None if result is None else _ADDRESS.sub(" at 0x…", result),
    }


def _key(end: Mapping[str, Any]) -> str:
    return json.dumps(end, sort_keys=True)


def compare(sides: Mapping[str, Facts]) -> str | None:
    """Return where pools disagree, None if they do not.

    :param sides: the name of each pool to its :func:`facts`.
    :returns: a text that shows the sides of each task concerned, pools that agree with one another on one line.
    """
    tasks = dict.fromkeys(task for found in sides.values() for task in found)
    told = []
    for task in tasks:
        each_ends = {column: found.get(task, []) for column, found in sides.items()}
        if any(end.get("result") == OVERWRITTEN for found in each_ends.values() for end in found):
            each_ends = {column: _without_results(found) for column, found in each_ends.items()}
        ends = {column: Counter(map(_key, found)) for column, found in each_ends.items()}
        if any(each != next(iter(ends.values())) for each in ends.values()):
            told.append(_tell(task, ends))
    return "\n\n".join(told) if told else None


def _without_results(ends: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in end.items() if name != "result"} for end in ends]


def _tell(task: str, ends: Mapping[str, Counter[str]]) -> str:
    common = _common(ends.values())
    groups: dict[str, list[str]] = {}
    for column, each in ends.items():
        groups.setdefault(json.dumps(sorted(each.items())), []).append(column)
    different = {column: each - common for column, each in ends.items()}
    cut = _shared_beginning(different.values())
    heads = [", ".join(columns) + ":" for columns in groups.values()]
    width = max(len(head) for head in heads)
    nothing = "nothing more" if common else "no such task"
    lines = [
        f"  {head.ljust(width)} {_side(different[columns[0]], cut) or nothing}"
        for head, columns in zip(heads, groups.values(), strict=True)
    ]
    same = f", apart from {common.total()} that ended alike" if common else ""
    return "\n".join([f"{task} ended differently from pool to pool{same}:", *lines])


def _common(sides: Iterable[Counter[str]]) -> Counter[str]:
    """Return the ends that every side has."""
    first, *rest = sides
    for each in rest:
        first = first & each
    return first


def _side(ends: Counter[str], cut: int) -> str:
    shown = [(f"{count} x " if count > 1 else "") + _text(json.loads(end), cut) for end, count in ends.items()]
    more = [f"… and {len(shown) - _MOST_ENDS} other ends"] if len(shown) > _MOST_ENDS else []
    return "; ".join(shown[:_MOST_ENDS] + more)


def _shared_beginning(sides: Iterable[Counter[str]]) -> int:
    """Return how many characters to leave out of the beginning of long results, which is the same everywhere."""
    results = {json.loads(end).get("result") or "" for each in sides for end in each}
    longest = max((len(text) for text in results), default=0)
    if longest <= _LONGEST_RESULT or len(results) < 2:
        return 0
    # What the first and the last in order have in common, all between them have too.
    first, last = min(results), max(results)
    common = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return max(0, common - _CONTEXT)


def _text(end: Mapping[str, Any], cut: int) -> str:
    parts = []
    if "state" in end:
        parts.append(str(end["state"]))
    if "retries" in end:
        parts.append(f"retries={end['retries']}")
    if end.get("exception") is not None:
        parts.append(str(end["exception"]))
    elif "exception" in end and "state" not in end:
        parts.append("no exception")
    result = end.get("result")
    if result is not None:
        parts.append("result=" + shorten(f"…{result[cut:]}" if cut else result, _LONGEST_RESULT))
    return ", ".join(parts) or "no result"
