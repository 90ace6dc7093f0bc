from tasks import charge


def test_charge(celery_pool_worker):
    results = [charge.delay("order-1") for _ in range(2)]
    assert all(each.get(timeout=10) in ("charged", "duplicate") for each in results)
