from tasks import import_orders, order


def test_orders(celery_pool_worker):
    results = [import_orders.delay(), order.delay("b")]
    assert [result.get(timeout=10) for result in results][0] is None
