from tasks import create


def test_create(celery_pool_worker):
    results = [create.delay(order) for order in range(8)]
    assert all("-" in each.get(timeout=10) for each in results)
