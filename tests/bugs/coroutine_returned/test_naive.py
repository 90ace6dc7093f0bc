import pytest
from tasks import lookup


def test_lookup(celery_pool_worker):
    with pytest.raises(Exception, match="serializ"):
        lookup.delay("ann").get(timeout=10)
