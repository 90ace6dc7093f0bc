from tasks import backup


def test_backup(celery_pool_worker):
    assert backup.delay(["there", "missing"]).get(timeout=10) == 2
