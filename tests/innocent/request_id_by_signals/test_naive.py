from tasks import handle


def test_requests(celery_pool_worker):
    assert all(each.get(timeout=10) for each in [handle.delay() for _ in range(4)])
