from tasks import price


def test_prices(celery_pool_worker):
    results = [price.delay(1, 3), price.delay(1, 6), price.delay(1, 4)]
    assert [result.get(timeout=10) for result in results] == ["0.143", "0.142857", "0.1429"]
