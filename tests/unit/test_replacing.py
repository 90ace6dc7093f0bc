"""What is replaced is put back, in whatever order those end who have replaced it."""

import itertools

import pytest

from pytest_celerypool.agent.replacing import Replacement


class Base:
    def function(self):
        return "base"


@pytest.fixture(params=["its own", "inherited"])
def owner(request):
    return type("Owner", (Base,), {"function": lambda self: "own"} if request.param == "its own" else {})


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_nothing_stays_when_all_have_ended(owner, order):
    before = dict(vars(owner))
    replacements = [Replacement(owner, "function", lambda self, number=number: number) for number in range(3)]
    assert owner().function() == 2
    for number in order:
        replacements[number].end()
    assert dict(vars(owner)) == before


def test_the_last_that_goes_on_is_the_one_that_is_called(owner):
    first, second = (Replacement(owner, "function", lambda self, number=number: number) for number in range(2))
    first.end()
    assert owner().function() == 1
    second.end()
    third = Replacement(owner, "function", lambda self: 3)
    assert owner().function() == 3
    third.end()


def test_what_somebody_else_has_put_there_stays(owner):
    replacement = Replacement(owner, "function", lambda self: 1)
    theirs = owner.function = lambda self: 2
    replacement.end()
    assert vars(owner)["function"] is theirs


def test_what_is_nowhere_cannot_be_replaced(owner):
    with pytest.raises(AttributeError):
        Replacement(owner, "nothing", None)
