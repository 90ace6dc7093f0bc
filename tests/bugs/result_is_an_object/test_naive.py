import pytest
from tasks import find


def test_find(celery_pool_worker):
    with pytest.raises(Exception):
        find.delay("ann").get(timeout=10)
