from tasks import pay


def test_pay(celery_pool_worker):
    for result in [pay.delay(12, 1.0), pay.delay(7, 0.3)]:
        result.get(timeout=10)
