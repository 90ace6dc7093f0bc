from tasks import order


def test_order(celery_pool_worker):
    assert order.delay(5).get(timeout=10) == 5
