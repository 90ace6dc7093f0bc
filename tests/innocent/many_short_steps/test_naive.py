from tasks import load


def test_load(celery_pool_worker):
    results = [load.delay(50) for _ in range(2)]
    assert all(result.get(timeout=20) for result in results)
