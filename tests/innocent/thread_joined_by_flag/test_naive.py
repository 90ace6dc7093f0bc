from tasks import load


def test_load(celery_pool_worker):
    results = [load.delay(rows) for rows in range(8)]
    assert [result.get(timeout=10) for result in results] == list(range(8))
