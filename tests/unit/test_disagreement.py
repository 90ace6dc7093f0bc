"""When different outcomes of one test under several pools are a finding."""

from pytest_celerypool.verdict.disagreement import Outcome, compare

PASSED = Outcome("prefork", "t[prefork]", passed=True)
FAILED = Outcome("gevent", "t[gevent]", passed=False, why="KeyError: 'x'")


def test_a_test_that_passes_under_one_pool_and_fails_under_another_is_a_finding_of_the_latter():
    (finding,) = compare("t", [PASSED, FAILED])
    assert (finding.kind, finding.pool, finding.tests) == ("pools-disagree", "gevent", ["t[gevent]"])
    assert finding.message == "t passed under prefork and failed under gevent"
    assert finding.evidence == "gevent: KeyError: 'x'"


def test_agreement_is_no_finding():
    assert not compare("t", [PASSED, Outcome("solo", "t[solo]", passed=True)])
    assert not compare("t", [FAILED, Outcome("solo", "t[solo]", passed=False)])


def test_a_failure_that_does_not_count_is_no_disagreement():
    assert not compare("t", [PASSED, Outcome("gevent", "t[gevent]", passed=False, counts=False)])
