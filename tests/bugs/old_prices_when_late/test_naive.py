from tasks import sync


def test_sync(celery_pool_worker):
    assert sync.delay("acme").get(timeout=10) == "kept old prices"
