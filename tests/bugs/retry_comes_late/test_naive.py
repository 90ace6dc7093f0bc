from tasks import deliver


def test_deliver(celery_pool_worker):
    assert deliver.delay("https://example.org").get(timeout=10)
