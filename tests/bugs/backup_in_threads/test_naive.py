from tasks import backup


def test_backup(celery_pool_worker):
    assert backup.delay(["pytest.ini", "orders.sql"]).get(timeout=10) == 2
