import pytest
from tasks import count, register

pytestmark = pytest.mark.celery_pools(concurrency=1)


def test_a_name_is_taken_once(celery_pool_worker):
    assert register.delay("ann").get(timeout=10) == "registered"
    assert register.delay("ann").get(timeout=10) == "taken"
    count.delay().get(timeout=10, propagate=False)
