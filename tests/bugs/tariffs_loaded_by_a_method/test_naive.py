from tasks import price


def test_prices(celery_pool_worker):
    results = [price.delay("eu", kilos) for kilos in (1, 2, 3)]
    assert [r.get(timeout=10) for r in results] == [4, 8, 12]
