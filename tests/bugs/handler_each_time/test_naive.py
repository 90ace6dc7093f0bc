from tasks import deliver


def test_delivery(celery_pool_worker):
    assert deliver.delay("a@example.org").get(timeout=10) >= 2
    assert deliver.delay("b@example.org").get(timeout=10) >= 2
