import pytest
from celery.exceptions import Reject

from tasks import load


def test_good(celery_pool_worker):
    assert load.delay(["1", "{}", "[2]"]).get(timeout=20) == 3


def test_bad_is_rejected(celery_pool_worker):
    with pytest.raises(Reject):
        load.delay(["1", "{oops"]).get(timeout=20)
