from tasks import mirror


def test_mirror(celery_pool_worker):
    assert mirror.delay(3).get(timeout=10) > 0
