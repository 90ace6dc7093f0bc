from tasks import tax


def test_tax(celery_pool_worker):
    assert tax.delay(100).get(timeout=10) >= 0
