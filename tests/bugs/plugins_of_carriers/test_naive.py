from tasks import price


def test_prices(celery_pool_worker):
    results = [price.delay("post", weight) for weight in (1, 2, 3)]
    assert [r.get(timeout=10) for r in results] == [3, 6, 9]
