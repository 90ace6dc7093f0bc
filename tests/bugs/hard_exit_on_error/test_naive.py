import pytest
from tasks import check


def test_full(celery_pool_worker):
    with pytest.raises(Exception):
        check.delay(0).get(timeout=10)
