from tasks import price


def test_prices(celery_pool_worker):
    assert price.delay("acme", 100).get(timeout=20) == 90
    assert price.delay("globex", 100).get(timeout=20) == 100
