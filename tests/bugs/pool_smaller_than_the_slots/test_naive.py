from tasks import order


def test_orders(celery_pool_worker):
    results = [order.delay(number) for number in range(4)]
    assert [each.get(timeout=10) for each in results] == [0, 1, 2, 3]
