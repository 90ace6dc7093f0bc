from tasks import price


def test_price(celery_pool_worker):
    results = [price.delay(n) for n in range(3)]
    assert all(r.get(timeout=10) >= 0 for r in results)
