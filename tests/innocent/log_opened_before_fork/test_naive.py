from tasks import order


def test_order(celery_pool_worker):
    assert all(order.delay(number).get(timeout=10) for number in range(6))
