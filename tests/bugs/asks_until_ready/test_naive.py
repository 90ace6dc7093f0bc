from tasks import bind


def test_book(celery_pool_worker):
    assert bind.delay(1).get(timeout=10) == ["page 1"]
