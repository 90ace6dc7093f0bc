from tasks import tables


def test_tables(celery_pool_worker):
    for _ in range(6):
        assert tables.delay().get(timeout=10) == 0
