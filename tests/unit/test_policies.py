"""What users may say of findings: policies and thresholds, checked with a message that says what is valid."""

import pytest

from pytest_celerypool.errors import SettingError
from pytest_celerypool.policies import Policies, format_limit, parse_findings, parse_limits
from pytest_celerypool.pools import pool
from pytest_celerypool.trace import Kind

KINDS = {
    kind.name: kind
    for kind in (
        Kind("hub-busy", "fail", "computes", 0.1, "s"),
        Kind("growing", "warn", "grows", 1024.0, "bytes"),
        Kind("left", "warn", "is left"),
    )
}


def policies(text="", limits=""):
    everywhere, named = parse_findings(text, "--celery-findings", KINDS) if text else (None, {})
    return Policies(
        KINDS, ["here:There"], everywhere, named, parse_limits(limits, "--celery-limits", KINDS) if limits else {}
    )


def test_without_a_choice_each_kind_has_its_own_policy():
    assert [policies().of(kind) for kind in KINDS] == ["fail", "warn", "warn"]


def test_a_bare_policy_is_of_the_kinds_that_are_not_named():
    chosen = policies("warn,growing=off,left=fail")
    assert [chosen.of(kind) for kind in KINDS] == ["warn", "off", "fail"]


def test_a_kind_that_nobody_declares_warns():
    assert policies().of("of-somebody-else") == "warn"


def test_thresholds_are_read_in_the_unit_of_their_kind():
    assert policies(limits="hub-busy=200ms, growing=2kB").limits == {"hub-busy": 0.2, "growing": 2000.0}
    assert policies(limits="hub-busy=0.5").limit("hub-busy") == 0.5
    assert policies().limit("hub-busy") == 0.1


@pytest.mark.parametrize(
    ("value", "unit", "text"), [(0.1, "s", "100 ms"), (1024, "bytes", "1.0 KiB"), (3, "tasks", "3 tasks")]
)
def test_a_threshold_is_shown_in_its_unit(value, unit, text):
    assert format_limit(value, unit) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("warn,fail", "names two policies for all kinds"),
        (",", "no policy is given. Valid: fail, warn, off"),
        ("hub-busy=loud", "'loud' is not a policy"),
        ("hub-bussy=warn", "Did you mean 'hub-busy'? Valid kinds: hub-busy, growing, left."),
    ],
)
def test_a_wrong_policy_is_refused(text, message):
    with pytest.raises(SettingError, match="--celery-findings: ") as refused:
        policies(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left=3", "left has no threshold. Kinds with one: hub-busy, growing."),
        ("hub-busy=soon", "hub-busy='soon' is not valid. Valid: above 0, seconds, or a string"),
        ("hub-busy=0", "hub-busy='0' is not valid"),
        ("growing=nan", "growing='nan' is not valid. Valid: above 0, bytes"),
        (",", "no threshold is given"),
    ],
)
def test_a_wrong_threshold_is_refused(text, message):
    with pytest.raises(SettingError, match="--celery-limits: ") as refused:
        policies(limits=text)
    assert message in str(refused.value)


def test_the_agent_is_told_what_is_off_and_gets_the_thresholds():
    told = policies("left=off", "hub-busy=1").configuration("/root", pool("gevent"))
    assert told["off"] == ["left"]
    assert told["limits"] == {"hub-busy": 1.0, "growing": 1024.0}
    assert told["pool"]["green"]
    assert told["detectors"] == ["here:There"]


def test_with_everything_off_there_is_no_detector():
    assert policies("off").configuration("/root", pool("solo")) is None
