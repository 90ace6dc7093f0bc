"""The end of a session: what only all pools together can show, and the matrix."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_celerypool.keys import NOTES, POLICIES, SETTINGS, SUMMARY


def report_endings(session: pytest.Session, *, complete: bool) -> None:
    """Report a failure for what only the end shows: late findings, every side of a disagreement, a regression.

    Each is a report of its own for its test, so that ``--lf`` runs it again.

    :param complete: whether every test had its turn.
    """
    summary = session.config.stash.get(SUMMARY, None)
    if summary is None or session.config.option.collectonly:
        return
    summary.complete = complete
    policy = session.config.stash[POLICIES].of("pools-disagree")
    if policy != "off":
        summary.compare_outcomes(policy)
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    late = [(nodeid, (nodeid.partition("::")[0], None, nodeid), text) for nodeid, text in summary.findings.failures()]
    regressed = _regressions(session, summary, complete)
    for number, (nodeid, location, text) in enumerate(
        [*summary.disagreements(), *summary.relatives(), *late, *regressed]
    ):
        if terminal is not None and number == 0:
            terminal.ensure_newline()  # behind the last test's line they would look like further tests
        report = pytest.TestReport(
            nodeid=nodeid,
            location=location,
            keywords={},
            outcome="failed",
            longrepr=text,
            when="call",
        )
        session.ihook.pytest_runtest_logreport(report=report)


def _regressions(session: pytest.Session, summary: Any, complete: bool) -> list[tuple[str, Any, str]]:
    """Compare with the baseline and write it; returns node id, location and text of what is worse."""
    settings = session.config.stash[SETTINGS]
    if settings.baseline is None:
        return []
    from pytest_celerypool.report.ratchet import settle

    return settle(summary, settings, session.config.rootpath, complete=complete)


def write_summary(reporter: Any) -> None:
    """Write the matrix and what else a session says of pools; nothing where no pool was chosen or used."""
    config = reporter.config
    summary = config.stash.get(SUMMARY, None)
    if summary is None or config.option.collectonly:
        return
    settings = config.stash[SETTINGS]
    if not summary.used and settings.pools is None and not settings.advise:
        return
    _write_findings(reporter, summary)
    _write_sweeps(reporter, summary)
    summary.note(config.stash.get(NOTES, []))
    writer = reporter._tw
    lines = summary.lines(
        width=writer.fullwidth,
        verbosity=config.get_verbosity(),
        color=writer.hasmarkup,
        chosen=None if settings.pools is None else [pool.name for pool in settings.pools],
        narrowed=_is_narrowed(reporter),
    )
    if lines:
        if config.get_verbosity() >= 0:
            reporter.write_sep("=", "celery pools")
        for line in lines:
            reporter.write_line(line)
    if settings.advise:  # asked for, so that a quiet run has it too
        reporter.write_sep("=", "celery advice")
        for line in summary.counsel.lines(summary.findings.all(), writer.fullwidth):
            reporter.write_line(line)


def _is_narrowed(reporter: Any) -> bool:
    """Whether only some of the tests were to run; xdist's controller hears of none that a node has left out."""
    option, arguments = reporter.config.option, reporter.config.args
    asked = any(getattr(option, name, None) for name in ("keyword", "markexpr", "deselect", "lf"))
    return asked or "deselected" in reporter.stats or any("::" in str(argument) for argument in arguments)


def _write_sweeps(reporter: Any, summary: Any) -> None:
    """Write the throughputs of the tests whose concurrency is an axis."""
    if summary.sweeps and reporter.config.get_verbosity() >= 0:
        reporter.write_sep("=", "celery sweeps: tasks a second by slots")
        for line in summary.sweeps.lines(reporter._tw.fullwidth):
            reporter.write_line(line)


def _write_findings(reporter: Any, summary: Any) -> None:
    """Write what the agents found, each once."""
    if summary.findings and reporter.config.get_verbosity() >= -1:
        reporter.write_sep("=", "celery findings")
        for line in summary.findings.lines(reporter._tw.fullwidth):
            reporter.write_line(line)
