from tasks import charge


def test_charge(celery_pool_worker):
    assert charge.delay(3).get(timeout=4)[1] == 3
