"""Findings, from a detector in a worker to what a user reads; the detector here is one of somebody else's."""

import pytest

#: A detector in a file of its own, as a third party writes it, and the plugin that names it.
DETECTOR = """
    import os
    import threading

    from pytest_celerypool.agent.detectors import Detector, Kind

    class Shouts(Detector):
        kinds = (Kind("shouted", "fail", "a task shouted"), Kind("murmured", "warn", "a task murmured", 3, "words"))

        def begin(self):
            if os.environ.get("EARLY") == "shouts":
                self.watch.report("shouted", None, "it shouted at the door", ["before work"], "come in first")
            if os.environ.get("EARLY") == "breaks":
                raise ZeroDivisionError("at the door")

        def ended(self, run, state, exc):
            if run.task.name == "proj.lingers":
                threading.Timer(0.3, self.tell, [run]).start()
            word = run.task.name.rpartition(".")[2]
            if word in ("shout", "whisper"):
                self.watch.report(
                    "shouted" if word == "shout" else "murmured", run, f"it went too far ({state})",
                    ["proj.py:1 in nowhere", f"limit {self.watch.limit('murmured'):g}"], "be quiet",
                )
            if word == "breaks":
                raise ZeroDivisionError("the detector's own")
            if word == "leaves":
                self.left = True

        def tell(self, run):
            known = {"task": run.task.name} if os.environ.get("ANONYMOUS") else {}
            self.watch.report(
                "shouted", None if known else run, "it shouted from the street", ["after work"], "go home", **known
            )

        def stopping(self):
            if getattr(self, "left", False):
                self.watch.report(
                    "shouted", None, "it slammed the door", ["at the end"], "leave quietly", task="proj.leaves"
                )
"""

CONFTEST = """
    def pytest_celerypool_detectors(config):
        return ["shouts:Shouts"]
"""

PROJ = """
    from celery import Celery

    app = Celery("proj")

    @app.task
    def shout(): return 1

    @app.task
    def whisper(): return 2

    @app.task
    def breaks(): return 3

    @app.task
    def leaves(): return 4

    @app.task
    def lingers(): return 5
"""

TESTS = """
    import pytest
    from proj import app, breaks, leaves, shout, whisper

    def test_shout(celery_pool_worker):
        assert shout.delay().get() == 1

    def test_whisper(celery_pool_worker):
        assert whisper.delay().get() == 2
        celery_pool_worker.drain()
        (finding,) = celery_pool_worker.findings
        assert (finding.kind, finding.task, finding.pool) == ("murmured", "proj.whisper", str(celery_pool_worker.pool))
        assert "proj.py:1" in finding.evidence

    @pytest.mark.celery_allow("shouted", reason="it has to")
    def test_allowed(celery_pool_worker):
        assert shout.delay().get() == 1

    @pytest.mark.xfail(strict=True)
    def test_expected(celery_pool_worker):
        assert shout.delay().get() == 1

    def test_breaks(celery_pool_worker):
        assert breaks.delay().get() == 3
"""


LEAVES = """
    from proj import leaves

    def test_it(celery_pool_worker):
        assert leaves.delay().get() == 4
"""


@pytest.fixture
def noisy(project):
    return project.write(shouts=DETECTOR, conftest=CONFTEST, proj=PROJ, test_it=TESTS)


def run(project, *arguments, **options):
    return project.run("--celery-app=proj:app", *arguments, **options)


def test_a_finding_fails_its_test_or_warns_by_the_policy_of_its_kind(noisy):
    done = run(noisy, "--celery-pools=solo")
    assert done.outcomes() == {
        "test_shout[solo]": "failed",
        "test_whisper[solo]": "passed",
        "test_allowed[solo]": "passed",
        "test_expected[solo]": "skipped",
        "test_breaks[solo]": "passed",
    }
    failure = done.failure("test_shout[solo]")
    assert "shouted: proj.shout under solo: it went too far (SUCCESS)" in failure
    assert "proj.py:1 in nowhere" in failure
    assert "fix: be quiet" in failure
    assert '@pytest.mark.celery_allow("shouted", reason="…")' in failure
    assert done.property("test_whisper[solo]", "celery_finding") == [
        "murmured: proj.whisper under solo: it went too far (SUCCESS)"
    ]


def test_the_summary_shows_each_finding_once_with_its_pools_and_tests(noisy):
    done = run(noisy, "--celery-pools=solo,threads", "-k", "shout or whisper")
    _, _, section = done.output.partition("celery findings")
    assert section.count("murmured: proj.whisper under solo, threads") == 1
    assert "FAIL shouted" in section
    assert "WARN murmured" in section
    assert "test_it.py::test_shout[solo], test_it.py::test_shout[threads]" in section


def test_a_detector_that_raises_is_switched_off_and_reported_and_the_tasks_go_on(noisy):
    done = run(noisy, "--celery-pools=prefork", "--celery-concurrency=1", "-k", "breaks or shout")
    assert done.outcomes()["test_breaks[prefork]"] == "passed"
    assert 'detector Shouts, switched off: ZeroDivisionError("the detector\'s own")' in done.output


@pytest.mark.gate("warn,shouted=fail-failed")
@pytest.mark.parametrize(
    ("option", "outcome"),
    [
        ("warn", "passed"),
        ("off", "passed"),
        ("shouted=warn", "passed"),
        ("warn,shouted=fail", "failed"),
    ],
)
def test_the_policy_of_a_kind_can_be_chosen(noisy, option, outcome):
    done = run(noisy, "--celery-pools=solo", f"--celery-findings={option}", "-k", "test_shout")
    assert done.outcomes() == {"test_shout[solo]": outcome}
    assert ("= celery findings" in done.output) == (option != "off")


@pytest.mark.slow
def test_a_threshold_reaches_the_detector(noisy):
    done = run(noisy, "--celery-pools=solo", "--celery-limits=murmured=7", "-k", "test_shout")
    assert "limit 7" in done.failure("test_shout[solo]")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--celery-findings=loud", "--celery-findings: 'loud' is not a policy. Valid: fail, warn, off, or KIND=POLICY"),
        ("--celery-findings=shouted", "Did you mean shouted=fail?"),
        ("--celery-findings=shoutd=warn", "'shoutd' is not a kind of finding. Did you mean 'shouted'?"),
        ("--celery-limits=murmured=-1", "murmured='-1' is not valid. Valid: above 0, a number of words"),
        ("--celery-limits=shouted=3", "shouted has no threshold. Kinds with one: "),
        ("--celery-limits=murmured", "'murmured' is not valid. Valid: KIND=VALUE"),
    ],
)
def test_a_wrong_value_names_the_option_and_what_is_valid(noisy, option, message):
    done = run(noisy, "--celery-pools=solo", option)
    assert done.status == 4
    assert message in done.output


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize("launch", ["subprocess", "inprocess"])
def test_what_shows_only_when_the_worker_ends_is_a_failed_report_of_its_own(noisy, launch):
    noisy.write(
        test_it="from proj import leaves\ndef test_it(celery_pool_worker):\n    assert leaves.delay().get() == 4\n"
    )
    done = run(noisy, "--celery-pools=solo", f"--celery-launch={launch}")
    calls = [report["outcome"] for report in done.reports if report["when"] == "call"]
    assert calls == ["passed", "failed"]
    assert done.status == 1
    assert "shouted: proj.leaves under solo: it slammed the door" in done.output


@pytest.mark.slow
def test_late_findings_of_a_node_reach_the_controller(noisy):
    noisy.write(
        test_it="from proj import leaves\ndef test_it(celery_pool_worker):\n    assert leaves.delay().get() == 4\n"
    )
    done = run(noisy, "--celery-pools=solo", "-n1")
    assert done.status == 1
    assert "it slammed the door" in done.output


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize("launch", ["subprocess", "inprocess"])
def test_findings_arrive_from_every_pool_and_launch(noisy, launch):
    done = run(noisy, "--celery-pools=all", f"--celery-launch={launch}", "-k", "test_shout")
    assert set(done.outcomes().values()) == {"failed"}
    assert len(done.outcomes()) == 5
    assert "under prefork, solo, threads, gevent, eventlet" in done.output


def test_a_detector_that_cannot_be_imported_is_a_usage_error(noisy):
    noisy.write(conftest='def pytest_celerypool_detectors(config):\n    return ["shouts:Whispers"]\n')
    done = run(noisy, "--celery-pools=solo")
    assert done.status == 4
    assert "'shouts:Whispers' names no detector" in done.output


def test_findings_are_in_the_junit_file(noisy, tmp_path):
    run(noisy, "--celery-pools=solo", "-k", "whisper", f"--junitxml={tmp_path / 'junit.xml'}")
    text = (tmp_path / "junit.xml").read_text()
    assert '<property name="celery_finding" value="murmured: proj.whisper under solo' in text


QUIET = """
    from proj import breaks, leaves

    def test_one(celery_pool_worker):
        assert leaves.delay().get() == 4
"""


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize("launch", ["subprocess", "inprocess"])
def test_what_is_found_before_any_test_is_of_the_first(noisy, launch):
    noisy.write(test_it=QUIET)
    done = run(noisy, "--celery-pools=threads", f"--celery-launch={launch}", environment={"EARLY": "shouts"})
    assert "it shouted at the door" in done.failure("test_one[threads]")


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize("launch", ["subprocess", "inprocess"])
def test_a_detector_that_fails_before_any_test_is_reported(noisy, launch):
    noisy.write(test_it=QUIET)
    done = run(noisy, "--celery-pools=threads", f"--celery-launch={launch}", environment={"EARLY": "breaks"})
    assert done.outcomes() == {"test_one[threads]": "passed"}
    assert "detector Shouts, switched off: ZeroDivisionError('at the door')" in done.output


LINGERING = """
    import time
    import pytest
    from proj import lingers, whisper

    def test_lingers(celery_pool_worker):
        assert lingers.delay().get() == 5

    @pytest.fixture
    def pause():
        time.sleep({before})

    def test_next(pause, celery_pool_worker):
        time.sleep({during})
        assert whisper.delay().get() == 2
"""


@pytest.mark.gate("during the next test")
@pytest.mark.parametrize(
    ("before", "during", "anonymous"),
    [(0.6, 0, ""), (0.6, 0, "1"), (0, 0.6, "")],
    ids=["between tests", "between tests, without an id", "during the next test"],
)
def test_what_is_found_after_its_test_was_judged_is_of_that_test(noisy, before, during, anonymous):
    noisy.write(test_it=LINGERING.format(before=before, during=during))
    done = run(noisy, "--celery-pools=solo", environment={"ANONYMOUS": anonymous})
    failed = [report["nodeid"] for report in done.reports if report["outcome"] == "failed"]
    assert failed == ["test_it.py::test_lingers[solo]"]
    assert done.status == 1
    assert "it shouted from the street" in done.output


DISAGREEING = """
    import pytest
    from proj import shout, whisper

    def test_plain(celery_pool_worker):
        assert celery_pool_worker.pool.name == "solo"

    @pytest.mark.celery_allow("pools-disagree", reason="it is about solo")
    def test_allowed(celery_pool_worker):
        assert celery_pool_worker.pool.name == "solo"

    @pytest.mark.celery_expect(agree=True)
    def test_agree(celery_pool_worker):
        assert celery_pool_worker.pool.name == "solo"

    def test_found(celery_pool_worker):
        if celery_pool_worker.pool.name != "solo":
            shout.delay().get()

    @pytest.fixture
    def of_solo(celery_pool):
        assert celery_pool.name == "solo"

    def test_error_in_set_up(of_solo, celery_pool_worker):
        pass
"""


def test_a_test_that_ends_differently_under_two_pools_is_a_warning_unless_a_finding_or_its_set_up_fails_it(noisy):
    noisy.write(test_it=DISAGREEING)
    done = run(noisy, "--celery-pools=solo,threads")
    _, _, section = done.output.partition("= celery findings")
    (told,) = [line for line in section.splitlines() if "pools-disagree" in line]
    assert "WARN pools-disagree: under threads: test_it.py::test_plain passed under solo and failed" in told
    assert "AssertionError" in section or "assert " in section


def test_a_disagreement_can_be_made_to_fail(noisy):
    noisy.write(test_it="def test_it(celery_pool_worker):\n    assert celery_pool_worker.pool.name == 'solo'\n")
    done = run(noisy, "--celery-pools=solo,threads", "--celery-findings=pools-disagree=fail")
    failed = [report for report in done.reports if report["outcome"] == "failed"]
    assert len(failed) == 2
