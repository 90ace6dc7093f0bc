from tasks import poll


def test_poll(celery_pool_worker):
    result = poll.apply_async((3,), time_limit=1)
    assert result.get(timeout=10, propagate=False) is not None
