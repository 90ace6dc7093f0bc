from tasks import price, set_discount


def test_price(celery_pool_worker):
    assert set_discount.delay(5).get(timeout=10) == 5
    results = [price.delay(20) for _ in range(4)]
    for each in results:
        each.get(timeout=10)
