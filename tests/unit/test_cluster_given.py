"""What a test gives to celery_pool_cluster is read, and a wrong part is named with what is valid."""

import pytest

from pytest_celerypool.cluster import Member, read_members
from pytest_celerypool.errors import ClusterError
from pytest_celerypool.pools import pool

GOOD = {"pool": "gevent", "queues": ["io"]}


def refusal(given):
    with pytest.raises(ClusterError) as caught:
        read_members(given)
    return str(caught.value)


def wrong(**changes):
    return refusal({"io": {**GOOD, **changes}})


def test_a_worker_is_a_pool_with_queues_and_perhaps_slots_and_options():
    read = read_members(
        {
            "cpu": {"pool": "prefork", "queues": ("cpu", "images", "cpu"), "concurrency": 2},
            "io": {"pool": pool("gevent"), "queues": ["io"], "options": "-O fair"},
            "own": {"pool": "proj.pools:TaskPool", "queues": ["own"]},
        }
    )
    assert read == {
        "cpu": Member(pool("prefork"), ("cpu", "images"), 2, ()),
        "io": Member(pool("gevent"), ("io",), None, ("-O", "fair")),
        "own": Member(pool("proj.pools:TaskPool"), ("own",), None, ()),
    }
    assert list(read) == ["cpu", "io", "own"]


@pytest.mark.parametrize("given", [{}, None, ["cpu"], "cpu"])
def test_what_is_no_mapping_or_empty_is_refused_with_an_example(given):
    text = refusal(given)
    assert text.startswith(f"celery_pool_cluster: {given!r} is not valid. Valid: a mapping of the workers' names")
    assert 'dict(pool="prefork", queues=["cpu"])' in text


@pytest.mark.parametrize("name", ["", "a b", "a@b", "%h", 3, None])
def test_a_name_that_is_no_part_of_a_node_name_is_refused(name):
    assert refusal({name: GOOD}).startswith(f"celery_pool_cluster: {name!r} cannot be the name of a worker. Valid: ")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"queus": ["io"]}, "there is no key 'queus'. Valid keys: pool, queues, concurrency, options. Did you mean "),
        ({"pool": None}, "no pool is given. Valid: the name of a pool, "),
        ({"pool": 3}, "pool=3 is not valid. Valid: the name of a pool, "),
        (
            {"pool": "gevnt"},
            "'gevnt' is not a pool. Valid pools: prefork, solo, threads, gevent, eventlet, or pkg.module:TaskPool.",
        ),
        ({"pool": "all"}, "'all' is a list of pools, and one is wanted. Valid pools: prefork, solo, "),
        ({"pool": "solo,gevent"}, "'solo,gevent' is a list of pools, and one is wanted. Valid pools: prefork, solo, "),
        ({"queues": None}, "no queues are given. Valid: a list of the names "),
        ({"queues": []}, "queues=[] is not valid. Valid: a list of the names "),
        ({"queues": "io"}, "queues='io' is not valid. Valid: a list of the names "),
        ({"queues": ["io,mail"]}, "queues=['io,mail'] is not valid. Valid: a list of the names "),
        ({"queues": [1]}, "queues=[1] is not valid. Valid: a list of the names "),
        ({"concurrency": 0}, "concurrency=0 is not valid. Valid: a whole number above 0."),
        ({"concurrency": "2"}, "concurrency='2' is not valid. Valid: a whole number above 0."),
        ({"concurrency": True}, "concurrency=True is not valid. Valid: a whole number above 0."),
        ({"concurrency": [1, 2]}, "concurrency=[1, 2] is not valid. Valid: a whole number above 0."),
        ({"options": ["-Q", "mail"]}, "options cannot hold '-Q': the worker's queues are given as queues=[…]."),
        ({"options": ["-Pgevent"]}, "options cannot hold '-Pgevent': the pool is the axis "),
        ({"options": 3}, "options=3 is not valid. Valid: words of the `celery worker` command line"),
    ],
)
def test_a_wrong_part_of_a_worker_is_named_with_its_worker_and_what_is_valid(changes, text):
    assert wrong(**changes).startswith(f"celery_pool_cluster: worker 'io': {text}")


def test_a_misspelt_pool_gets_the_right_one():
    assert wrong(pool="gevnt").endswith("Did you mean 'gevent'?")


def test_a_worker_that_is_no_dict_is_refused():
    assert refusal({"io": "gevent"}).startswith("celery_pool_cluster: worker 'io': 'gevent' is not valid. Valid: dict(")
