import pytest
from tasks import store


def test_store(celery_pool_worker):
    with pytest.raises(Exception, match="more than"):
        store.delay("ann").get(timeout=10)
