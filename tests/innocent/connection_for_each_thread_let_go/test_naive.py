from tasks import prepare


def test_prepare(celery_pool_worker):
    results = [prepare.delay(page) for page in range(12)]
    assert [each.get(timeout=10) for each in results] == [f"http://127.0.0.1/{page}" for page in range(12)]
