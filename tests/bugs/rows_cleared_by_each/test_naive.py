from tasks import invoice


def test_each_order_has_its_lines(celery_pool_worker):
    results = [invoice.delay(order) for order in range(3)]
    assert all(each.get(timeout=10) for each in results)
