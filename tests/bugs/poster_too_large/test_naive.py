import pytest

from tasks import blank


def test_poster_that_is_too_large(celery_pool_worker):
    with pytest.raises(MemoryError):
        blank.delay(60_000_000, 60_000_000).get(timeout=20)


def test_small_one_afterwards(celery_pool_worker):
    assert blank.delay(10, 10).get(timeout=20) == 400
