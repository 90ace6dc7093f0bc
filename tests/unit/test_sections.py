"""What a failing test's report shows of its worker's log."""

import pytest

from pytest_celerypool.judge import excerpt


@pytest.mark.parametrize("count", [1, 600])
def test_a_log_of_ordinary_length_is_shown_whole(count):
    log = "\n".join(map(str, range(count)))
    assert excerpt(log) == log


def test_of_a_very_long_log_its_beginning_and_its_end_are_shown_and_how_much_is_not():
    shown = excerpt("\n".join(map(str, range(20_000)))).splitlines()
    assert shown[:100] == [str(number) for number in range(100)]
    assert shown[100] == "… 19400 of 20000 lines are left out here; -vv shows them all …"
    assert shown[101:] == [str(number) for number in range(19_500, 20_000)]


def test_a_very_long_line_is_cut():
    assert excerpt("x" * 5000 + "\ny") == "x" * 4000 + "…\ny"
