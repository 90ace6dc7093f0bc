from tasks import begin_maintenance, end_maintenance, migrate


def test_maintenance(celery_pool_worker):
    assert begin_maintenance.delay().get(timeout=10)
    tables = [migrate.delay(name) for name in ("orders", "users", "stock")]
    assert end_maintenance.delay().get(timeout=10)
    assert [t.get(timeout=10) for t in tables] == ["orders", "users", "stock"]
