"""Bugs that only a RabbitMQ has: each is found under exactly the pools that have it, with the line that did it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from cases import cases_in, run_case
from servers import RabbitService

pytestmark = pytest.mark.services

CASES = cases_in(Path(__file__).parent / "bugs")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.usefixtures("rabbit_service")
def test_the_bug_is_found(case: Any, case_project: Any) -> None:
    """The kind under its pools, nothing else; the pools that its author used pass."""
    ran = run_case(case, case_project, f"--celery-broker={RabbitService.url}")
    found = {(each["kind"], each["pool"]): each["evidence"] for each in ran.findings if each["kind"] not in case.also}
    expected = {(each["kind"], pool): each["line"] for each in case.findings for pool in each["pools"]}
    assert found.keys() == expected.keys(), f"{ran.text()}\n{ran.run.output}"
    assert [key for key, line in expected.items() if line not in found[key]] == [], ran.text()
    passed = {pool for pool in case.author for test in ran.run.outcomes() if test.endswith(f"[{pool}]")}
    assert passed == set(case.author)
    assert {outcome for test, outcome in ran.run.outcomes().items() if "solo" not in test} == {"passed"}


@pytest.mark.usefixtures("rabbit_service")
def test_without_heartbeats_a_long_task_misses_none(case_project: Any, tmp_path: Path) -> None:
    """The same long task, where the application promises no heartbeat, is accused of nothing."""
    (case,) = [case for case in CASES if case.name == "report_between_heartbeats"]
    folder = tmp_path / "without"
    shutil.copytree(case.folder, folder)
    tasks = folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace("broker_heartbeat=2", "broker_heartbeat=0"))
    quiet = dataclasses.replace(case, folder=folder, pools=("solo",))
    ran = run_case(quiet, case_project, f"--celery-broker={RabbitService.url}")
    assert (ran.findings, set(ran.run.outcomes().values())) == ([], {"passed"})
