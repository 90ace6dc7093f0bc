"""What the tasks of one judged test took, as plain data: for a baseline, and for advice.

It travels with the test's report, so that whoever has the reports of all pools has all figures. Whether the test passed
is told by the report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from pytest_celerypool.trace import LOST, Span
from pytest_celerypool.verdict.measures import best, highest, makespan, queued_range, runtime, runtime_range


class Evidence(TypedDict):
    """The executions of one task in one test under one pool; durations in seconds, figures that are not known left out.

    The lists are in the order in which the executions began.
    """

    task: str
    pool: str
    #: The pool, with the slots if these are an axis too: ``gevent-100``.
    column: str
    #: The slots of the worker.
    concurrency: int
    #: Less the time that the slot waited for a processor.
    runtime: list[float]
    #: Processor time of the task alone.
    cpu: list[float]
    #: The longest that an execution kept its hub (green pools).
    hold: list[float]
    #: All the time that an execution kept its hub (green pools).
    kept: list[float]
    #: From published to started.
    queued: list[float]
    #: The most that runtime and queued may have been; those above leave out all that others may have cost.
    runtime_high: list[float]
    queued_high: list[float]
    #: How long the slot waited for a processor meanwhile.
    waited: list[float]
    #: From the first publication to the last end; None if a publication is not known.
    makespan: float | None
    count: int
    #: Bytes that the worker's processes used at the end of the test; None unless it was asked for and is known.
    memory: int | None
    #: How the executions ended, and how many did.
    states: dict[str, int]


#: The figures that each execution has of its own, by their key.
FIGURES: Mapping[str, Callable[[Span], float | None]] = {
    "runtime": runtime,
    "cpu": lambda span: span.cpu,
    "hold": lambda span: span.hold,
    "kept": lambda span: span.kept,
    "queued": best(queued_range),
    "runtime_high": highest(runtime_range),
    "queued_high": highest(queued_range),
    "waited": lambda span: span.waited,
}


def of_test(
    spans: Iterable[Span], *, pool: str, column: str, concurrency: int, memory: int | None = None
) -> list[Evidence]:
    """Return what the executions of a test took, task by task.

    Only those count that ran in a slot and ended there; a slot that was lost tells nothing of what its task takes.

    :param spans: of the test, none of them of a repetition.
    :param pool: the name of the pool.
    :param column: the pool as it stands in the test's id.
    :param concurrency: the slots of the worker.
    :param memory: bytes that the worker's processes use, if anybody wants to know.
    """
    by_task: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.started or 0.0):
        if span.started is not None and span.ended is not None and span.state not in (None, LOST):
            by_task.setdefault(span.task, []).append(span)
    found = []
    for task, ran in by_task.items():
        figures = {name: [value for span in ran if (value := of(span)) is not None] for name, of in FIGURES.items()}
        found.append(
            Evidence(
                task=task,
                pool=pool,
                column=column,
                concurrency=concurrency,
                runtime=figures["runtime"],
                cpu=figures["cpu"],
                hold=figures["hold"],
                kept=figures["kept"],
                queued=figures["queued"],
                runtime_high=figures["runtime_high"],
                queued_high=figures["queued_high"],
                waited=figures["waited"],
                makespan=makespan(ran),
                count=len(ran),
                memory=memory,
                states=dict(Counter(str(span.state) for span in ran)),
            )
        )
    return found
