from tasks import order


def test_orders(celery_pool_worker):
    results = [order.delay(number) for number in range(5)]
    assert [each.get(timeout=10) for each in results] == list(range(5))
