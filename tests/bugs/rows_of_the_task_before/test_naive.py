import pytest
from tasks import book

pytestmark = pytest.mark.celery_pools(concurrency=1)


def test_book(celery_pool_worker):
    assert book.delay("ann", 0).get(timeout=10) == "no bed is free"
    assert book.delay("bob", 2).get(timeout=10) == "booked"
