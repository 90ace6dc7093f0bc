"""What the processes of one worker write down for one another."""

import json
import os

import pytest

from pytest_celerypool.agent.detectors.notes import Notes


@pytest.fixture
def both(tmp_path):
    """Return the notes of one detector in two processes."""
    notes = [Notes(str(tmp_path), "looks") for _ in range(2)]
    yield notes
    for each in notes:
        each.close()


def test_what_any_process_notes_is_read_by_all_in_its_order_and_once(both):
    one, other = both
    one.add([["a", 1], ["b", 2]])
    other.add([["c", 3]])
    for each in both:
        assert list(each.news()) == [["a", 1], ["b", 2], ["c", 3]]
    one.add([["d", 4]])
    assert [list(each.news()) for each in both] == [[["d", 4]], [["d", 4]]]


def test_notes_of_other_detectors_are_not_read(both, tmp_path):
    others = Notes(str(tmp_path), "listens")
    others.add([1])
    others.close()
    assert list(both[0].news()) == []


def test_a_note_is_read_when_all_of_it_is_there(both, tmp_path):
    both[0].add(["first"])
    with (tmp_path / "looks.jsonl").open("ab") as file:
        file.write(json.dumps("second").encode())
        file.flush()
        assert list(both[1].news()) == ["first"]
        file.write(b"\n")
    assert list(both[1].news()) == ["second"]


def test_a_child_goes_on_where_its_parent_was_with_a_file_of_its_own(both):
    one, other = both
    one.add(["before"])
    assert list(one.news()) == ["before"]
    inherited = one._fd
    one.forked()
    other.add(["after"])
    assert list(one.news()) == ["after"]
    assert one._fd != inherited
    os.close(inherited)
