import pytest
from tasks import book, count

pytestmark = pytest.mark.celery_pools(concurrency=1)


def test_book(celery_pool_worker):
    assert [book.delay("ann").get(timeout=10) for _ in range(2)] == ["booked", "has a bed"]
    assert count.delay().get(timeout=10) == 1
