from tasks import charge


def test_charge(celery_pool_worker):
    assert charge.delay(12).get(timeout=10) == 12
