from tasks import pay


def test_pay(celery_pool_worker):
    assert pay.delay(3).get(timeout=10) == 3
