"""The findings of a session at its end: each once, with the pools and the tests it struck."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: How many tests are named for one finding; the rest is counted.
_MOST_TESTS = 5


class Catalogue:
    """Findings as plain data, gathered from the reports of a session and from workers that ended."""

    def __init__(self) -> None:
        #: By kind, task and key, then by pool.
        self._found: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
        self._late: list[dict[str, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, findings: Iterable[Mapping[str, Any]], nodeid: str | None = None) -> None:
        """Take in what a test or a worker showed.

        :param nodeid: the test.
        """
        for finding in findings:
            pools = self._found.setdefault((finding["kind"], finding["task"], finding["key"]), {})
            known = pools.setdefault(finding["pool"], {**finding, "tests": []})
            for test in finding["tests"] if nodeid is None else [nodeid]:
                if test not in known["tests"]:
                    known["tests"].append(test)

    def add_late(self, findings: Iterable[Mapping[str, Any]]) -> None:
        """Take in what showed only after the tests that it struck had been reported."""
        for finding in findings:
            self._late.append(dict(finding))
            self.add([finding])

    def all(self) -> list[dict[str, Any]]:
        """Return every finding as plain data, that of each pool by itself."""
        return [finding for pools in self._found.values() for finding in pools.values()]

    def failures(self) -> Iterator[tuple[str, str]]:
        """Yield node id and text of every late finding that has to fail."""
        said: set[tuple[str, ...]] = set()
        for finding in self._late:
            identity = (finding["kind"], finding["task"], finding["key"], finding["pool"])
            if finding["policy"] == "fail" and identity not in said:
                said.add(identity)
                tests = finding["tests"] or [f"celery worker ({finding['pool']})"]
                yield tests[-1], "\n".join([_title(finding, [finding["pool"]]), *_body(finding)])

    def lines(self, width: int) -> list[str]:
        """Return the lines of the section.

        :param width: of the terminal, in columns.
        """
        lines: list[str] = []
        for pools in self._found.values():
            first = next(iter(pools.values()))
            tests = [test for finding in pools.values() for test in finding["tests"]]
            lines += _wrapped(f"{first['policy'].upper()} {_title(first, pools)}", width, "")
            lines += [line for text in _body(first) for line in _wrapped(text, width, "  ")]
            lines += _wrapped(f"  tests: {_tests(tests)}", width, "  ")
        return lines


def _title(finding: Mapping[str, Any], pools: Iterable[str]) -> str:
    task = "" if finding["task"] == "?" else f" {finding['task']}"
    return f"{finding['kind']}:{task} under {', '.join(pools)}: {finding['message']}"


def _body(finding: Mapping[str, Any]) -> list[str]:
    return [*(f"  {line}" for line in finding["evidence"].splitlines()), f"  fix: {finding['remedy']}"]


def _tests(tests: list[str]) -> str:
    named = list(dict.fromkeys(tests))
    more = len(named) - _MOST_TESTS
    return ", ".join(named[:_MOST_TESTS]) + (f" and {more} more" if more > 0 else "")


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent=f"{indent}    ", break_on_hyphens=False, break_long_words=False
    ) or [text]
