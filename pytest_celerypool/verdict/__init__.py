"""Judge what the tasks of a test did: specifications and spans in, outcomes that render themselves out.

Nothing here runs a task, waits, or knows pytest: every function takes plain data and returns plain data.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """Something that the tasks of a test did and must not do."""

    #: One line that is enough to know what is wrong: which task, what was demanded, what was found, which pool.
    summary: str
    #: Further lines that help to find out why.
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.summary}\n{self.detail}" if self.detail else self.summary
