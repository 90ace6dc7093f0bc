"""The end of a session with a baseline: compare, say what was found, write the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_celerypool.baseline import Machines, machine, read, update
from pytest_celerypool.report.summary import Summary, Witness
from pytest_celerypool.settings import Settings
from pytest_celerypool.verdict import comparing, ratchet

#: Node id, location and text of a failure of which only the end of the session knows.
Late = tuple[str, Any, str]

#: How many tasks a line names.
_MOST_NAMED = 4


def settle(summary: Summary, settings: Settings, root: os.PathLike[str], *, complete: bool) -> list[Late]:
    """Compare the tests that passed with the baseline of this machine, and write it anew.

    :param root: of the project, from which the file is named.
    :param complete: whether the session came to its own end; otherwise nothing is written.
    :returns: node id, location and text of each failure; everything else becomes notes of the summary.
    """
    path = settings.baseline
    if path is None:
        return []
    name = os.path.relpath(path, root)
    passed = [witness for witness in summary.evidence if witness.passed]
    run = ratchet.of_run((witness.test, witness.figures) for witness in passed)
    rules, here = settings.budget_ratchet, machine()
    try:
        stored = read(path)
        outcome = ratchet.judge(stored.get(here, {}), run, rules) if rules else ratchet.Outcome()
    except ValueError as exc:
        summary.note([f"celery baseline: nothing compared and nothing written: {exc}"])
        return []
    notes = [*_compared(outcome), *_unknown(outcome, stored, here, name)] if rules and run else []
    if not complete:
        notes.append(f"celery baseline: {name} not written: the session did not come to its end")
    elif not run:
        notes.append(f"celery baseline: {name} not written: no test passed that ran a task")
    else:
        notes.append(_write(path, name, here, run, _change(rules)))
    summary.note(notes)
    return [each for regression in outcome.regressions() for each in _failed(summary, passed, regression, name)]


_Change = Callable[[ratchet.Tasks, ratchet.Tasks], ratchet.Tasks]


def _change(rules: Sequence[Any]) -> _Change:
    if not rules:
        return ratchet.replaced
    return lambda stored, run: ratchet.tightened(stored, run, rules)


def _write(path: Any, name: str, here: str, run: ratchet.Tasks, change: _Change) -> str:
    """Write the file; returns what to say of it."""
    changed: list[str] = []

    def merge(machines: Machines) -> Machines:
        before = machines.get(here, {})
        after: Any = change(before, run)
        changed.extend(
            f"{task} under {pool}"
            for task, pools in after.items()
            for pool, tests in pools.items()
            if tests != before.get(task, {}).get(pool)
        )
        return {**machines, here: after}

    try:
        update(path, merge)
    except (OSError, ValueError) as exc:
        return f"celery baseline: {name} not written: {exc}"
    return f"celery baseline: {_named(changed)} written to {name}" if changed else f"celery baseline: {name} unchanged"


def _compared(outcome: ratchet.Outcome) -> Iterator[str]:
    """Say what was compared, and where that says less than it seems."""
    if outcome.compared:
        worse = sum(each.comparison.verdict == "worse" for each in outcome.compared)
        count = len(outcome.compared)
        yield f"celery ratchet: {count} figure{'s' if count > 1 else ''} compared, {worse or 'none'} worse"
    few: dict[str, list[str]] = {}
    for each in outcome.compared:
        if each.comparison.verdict == "unclear":
            yield f"celery ratchet: {ratchet.unclear(each)}"
        if each.few:
            few.setdefault(
                f"{each.rule.statistic} takes {comparing.needed(each.rule.percentile)} executions", []
            ).append(f"{each.task} under {each.pool} ({min(each.counts)})")
    for text, places in few.items():
        yield f"celery ratchet: {text} and is the maximum of fewer: {_named(list(dict.fromkeys(places)))}"
    yield from (f"celery ratchet: {note}" for note in outcome.notes)


def _unknown(outcome: ratchet.Outcome, stored: Machines, here: str, name: str) -> Iterator[str]:
    if here not in stored:
        yield f"celery ratchet: {name} has no baseline of this machine ({here}): nothing to compare with"
    elif outcome.unknown:
        places = [f"{task} under {pool}" for task, pool in outcome.unknown]
        yield f"celery ratchet: {name} has nothing yet to compare with: {_named(places)}"


def _named(places: Sequence[str]) -> str:
    more = [f"{len(places) - _MOST_NAMED} more"] if len(places) > _MOST_NAMED else []
    return ", ".join([*places[:_MOST_NAMED], *more])


def _failed(
    summary: Summary, passed: Sequence[Witness], regression: Sequence[ratchet.Compared], name: str
) -> Iterator[Late]:
    """Yield node id, location and text for each test that ran a task which regressed."""
    text = ratchet.render(regression, name)
    tests = {test for each in regression for test in each.tests}
    place = (regression[0].task, regression[0].pool)
    sides = {
        witness.nodeid: witness
        for witness in passed
        if witness.test in tests and (witness.figures["task"], witness.figures["column"]) == place
    }
    for witness in sides.values():
        summary.fail(witness.test, [place[1]])
        yield witness.nodeid, witness.location, text
