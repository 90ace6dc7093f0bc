import pytest
from celery import group
from tasks import enlarge


def test_parts_are_joined(celery_pool_worker):
    assert group(enlarge.s([1, 2, each]) for each in range(4))().get(timeout=10) == [6, 8, 10, 12]


def test_given_up(celery_pool_worker):
    with pytest.raises(Exception, match="given up"):
        enlarge.delay([1, 2], given_up=True).get(timeout=10)
