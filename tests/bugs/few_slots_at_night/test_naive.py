import pytest
from tasks import tidy


@pytest.mark.celery_pools("prefork", "threads", options=("--autoscale", "4,2"))
def test_tidy(celery_pool_worker):
    assert tidy.delay(0.05).get(timeout=10)
