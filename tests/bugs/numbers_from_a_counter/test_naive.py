from tasks import number


def test_number(celery_pool_worker):
    results = [number.delay(order) for order in range(8)]
    assert len([each.get(timeout=10) for each in results]) == 8
