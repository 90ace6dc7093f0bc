from tasks import pack


def test_orders_are_packed(celery_pool_worker):
    assert [pack.delay(number).get(timeout=10) for number in range(10)] == list(range(10))
