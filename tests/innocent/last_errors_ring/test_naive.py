from celery import group
from tasks import parse


def test_parse(celery_pool_worker):
    lines = ["1", "x", "3", "?"] * 10
    assert group(parse.s(l) for l in lines).delay().get(timeout=10) == [1, None, 3, None] * 10
