"""Tell a failure apart that lies in the nature of a pool: the test demands what the pool does not do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pytest_celerypool.pools import Pool

#: Fact of a pool to what a test did that needs it, and what the pool does instead.
_DEMANDS: Mapping[str, str] = {
    "enforces_soft_time_limit": "the test gives a task a soft time limit, which {pool} does not enforce",
    "enforces_hard_time_limit": "the test gives a task a hard time limit, which {pool} does not enforce",
    "terminates_on_revoke": "the test terminates a running task, which {pool} cannot do",
    "answers_control_while_working": "the test asks the worker something while a task runs, and {pool} answers "
    "remote control only between two tasks",
    "drops_expired_while_waiting": "the test gives a task an expiry, and {pool} runs it although it expires while it "
    "waits for a slot",
}

#: What unittest.mock says of a mock that was not called as expected, and what pytest says of its attributes.
_MOCK = re.compile(
    r"Expected '.*' to (have been|be) (called|awaited)|expected call not found|Calls not found"
    r"|where .* = <.*>\.(called|call_count|call_args|call_args_list|mock_calls|method_calls|await_count)\b"
)


def reasons(pool: Pool, demands: Iterable[str], text: str) -> list[str]:
    """Return why a test may fail under a pool without a defect of its tasks, a line each; mostly none.

    :param pool: the pool; of a custom one nothing is known.
    :param demands: the facts that the test needs, as far as they were seen.
    :param text: how the test failed.
    """
    if pool.custom:
        return []
    seen = set(demands)
    found = [text for fact, text in _DEMANDS.items() if fact in seen and not getattr(pool, fact)]
    if pool.forks and _MOCK.search(text):
        found.append("the test looks at a mock of its own process, and the tasks of {pool} run in others")
    return [f"{line.format(pool=pool)}: a property of the pool, perhaps no defect" for line in found]
