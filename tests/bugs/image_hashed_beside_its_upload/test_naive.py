from tasks import publish


def test_publish(celery_pool_worker):
    assert publish.delay("cat.png", 3_000_000).get(timeout=20) > 0
