from tasks import order


def test_order(celery_pool_worker):
    for number in range(4):
        assert order.delay(number).get(timeout=10) == number
