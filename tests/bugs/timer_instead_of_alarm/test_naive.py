from tasks import price


def test_price(celery_pool_worker):
    for sku in ("a", "bb", "ccc", "dddd", "eeeee"):
        assert price.delay(sku).get(timeout=20) == len(sku) * 7
