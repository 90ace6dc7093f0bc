import pytest
from celery.exceptions import SoftTimeLimitExceeded
from tasks import convert, convert_or_fail


def test_convert(celery_pool_worker):
    assert convert.delay(0.1).get(timeout=30) == "done"


@pytest.mark.celery_pools("prefork")
def test_too_long(celery_pool_worker):
    assert convert.delay(5).get(timeout=30) == "cleaned up"


@pytest.mark.celery_pools("prefork")
def test_too_long_and_raised_again(celery_pool_worker):
    with pytest.raises(SoftTimeLimitExceeded):
        convert_or_fail.delay(5).get(timeout=30)
