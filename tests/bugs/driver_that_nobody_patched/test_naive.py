from tasks import balance


def test_balance(celery_pool_worker):
    assert balance.delay(7).get(timeout=10) == 7
