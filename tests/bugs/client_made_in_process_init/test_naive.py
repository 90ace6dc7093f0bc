from tasks import price


def test_price(celery_pool_worker):
    assert price.delay("tea").get(timeout=10) == 3
