"""What of an exception its caller does not get."""

import json

from pytest_celerypool.agent.detectors.ends.exceptions import _lost, _same_class


class ProblemError(Exception):
    def __init__(self, *args, code=None):
        super().__init__(*args)
        self.code = code


def test_an_exception_that_arrives_whole_has_lost_nothing():
    assert _lost(ProblemError("a", 1, (2, 3)), ProblemError("a", 1, [2, 3])) == []
    assert _lost(KeyError("x"), KeyError("x")) == []


def test_arguments_that_became_text_and_attributes_that_are_gone_are_named():
    class Thing:
        pass

    assert _lost(ProblemError(Thing()), ProblemError("<Thing>")) == ["argument 1 (a Thing, now text)"]
    assert _lost(ProblemError("a", code=3), ProblemError("a")) == ["attribute code"]
    assert _lost(ProblemError("a", "b"), ProblemError("a")) == ["2 args as they were"]


def test_notes_are_no_data_of_the_exception():
    noted = ProblemError("a")
    noted.add_note("see the log")
    assert _lost(noted, ProblemError("a")) == []


def test_a_class_that_was_built_again_under_its_name_is_the_same():
    again = type("ProblemError", (Exception,), {"__module__": ProblemError.__module__})
    assert _same_class(again, ProblemError)
    assert not _same_class(Exception, json.JSONDecodeError)
