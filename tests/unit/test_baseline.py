"""The file of a baseline: what it looks like, what is refused, and that no run loses another's change."""

import json
import multiprocessing
import os

import pytest

from pytest_celerypool import baseline
from pytest_celerypool.errors import SettingError

FIGURES = {"count": 2, "concurrency": 1, "runtime": [0.1, 0.25]}


def put(machine="m", task="proj.add", test="t", figures=FIGURES):
    """Return a change that adds figures."""

    def change(machines):
        tasks = machines.get(machine, {})
        pools = tasks.get(task, {})
        return {**machines, machine: {**tasks, task: {**pools, "solo": {**pools.get("solo", {}), test: figures}}}}

    return change


def test_what_was_written_is_read(tmp_path):
    baseline.update(tmp_path / "b.json", put())
    assert baseline.read(tmp_path / "b.json") == {"m": {"proj.add": {"solo": {"t": FIGURES}}}}


def test_a_file_is_sorted_with_a_line_for_each_key(tmp_path):
    """A difference between two versions can be read."""
    path = tmp_path / "b.json"
    baseline.update(path, put(task="b", figures={"runtime": [0.5] * 11, "count": 1}))
    baseline.update(path, put(task="a"))
    assert path.read_text().splitlines() == [
        "{",
        '  "format": "pytest-celerypool baseline",',
        '  "machines": {',
        '    "m": {',
        '      "a": {',
        '        "solo": {',
        '          "t": {',
        '            "concurrency": 1,',
        '            "count": 2,',
        '            "runtime": [0.1, 0.25]',
        "          }",
        "        }",
        "      },",
        '      "b": {',
        '        "solo": {',
        '          "t": {',
        '            "count": 1,',
        '            "runtime": [',
        "              0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5,",
        "              0.5",
        "            ]",
        "          }",
        "        }",
        "      }",
        "    }",
        "  },",
        '  "version": 1',
        "}",
    ]


def test_a_file_that_does_not_change_is_not_written(tmp_path):
    path = tmp_path / "b.json"
    baseline.update(path, put())
    before = path.stat().st_ino
    baseline.update(path, put())
    assert path.stat().st_ino == before


def test_nothing_is_left_beside_the_file_if_it_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        baseline.update(tmp_path / "b.json", put())
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path):
    path = tmp_path / "b.json"
    baseline.update(path, put())
    path.chmod(0o640)
    (tmp_path / "link.json").symlink_to(path)
    baseline.update(tmp_path / "link.json", put(test="u"))
    assert (tmp_path / "link.json").is_symlink()
    assert list(baseline.read(path)["m"]["proj.add"]["solo"]) == ["t", "u"]
    assert path.stat().st_mode & 0o777 == 0o640


def _put_many(path, number):
    for each in range(20):
        baseline.update(path, put(test=f"{number}-{each}"))


def test_runs_side_by_side_lose_nothing(tmp_path):
    """Four processes that write at once leave what all of them wrote, and nothing else."""
    path = tmp_path / "b.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_put_many, args=(path, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(baseline.read(path)["m"]["proj.add"]["solo"]) == 80
    assert [each.name for each in tmp_path.iterdir()] == ["b.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("<<<<<<< HEAD", "is not JSON"),
        ("[]", "is not a baseline of pytest-celerypool"),
        ('{"version": 1}', "is not a baseline of pytest-celerypool"),
        ('{"format": "pytest-celerypool baseline", "version": 2, "machines": {}}', "has version 2 of the format"),
        ('{"format": "pytest-celerypool baseline", "version": 1}', "is damaged: the file has no machines"),
        (
            '{"format": "pytest-celerypool baseline", "version": 1, "machines": {"m": {"proj.add": 3}}}',
            "is damaged: proj.add has no pools",
        ),
        (
            json.dumps(
                {"format": baseline.FORMAT, "version": 1, "machines": {"m": {"a": {"solo": {"t": {"runtime": ["x"]}}}}}}
            ),
            "is damaged: runtime of t holds something else than numbers",
        ),
    ],
)
def test_another_file_is_refused(tmp_path, text, message):
    """The message names where the file came from, the file, what is wrong, and what to do."""
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(SettingError) as error:
        baseline.check(path, "--celery-baseline")
    assert str(error.value).startswith(f"--celery-baseline: {path} {message}")
    assert str(error.value).endswith("Name another file, or remove this one to begin anew.")


def test_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(SettingError) as error:
        baseline.check(tmp_path / "none" / "b.json", "celery_baseline in tox.ini")
    assert str(error.value) == (
        f"celery_baseline in tox.ini: {tmp_path}/none/b.json cannot be written: there is no folder {tmp_path}/none. "
        "Make it, or name a file elsewhere."
    )


def test_a_folder_is_no_file(tmp_path):
    """Whoever names a folder is told to name a file in it, and not to remove the folder."""
    with pytest.raises(SettingError) as error:
        baseline.check(tmp_path, "--celery-baseline")
    assert str(error.value) == (
        f"--celery-baseline: {tmp_path} is a folder. Name a file, as in {tmp_path}/celery-baseline.json."
    )


def test_a_machine_is_told_by_what_decides_its_speed(monkeypatch):
    """Not by its name, which is another in each run of CI."""
    text = baseline.machine()
    assert os.uname().nodename not in text
    assert os.uname().sysname in text
    assert os.uname().machine in text
    assert "processor" in text
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert "1 processor," in baseline.machine()
