from tasks import fetch


def test_fetch(celery_pool_worker):
    results = [fetch.delay(n) for n in range(12)]
    assert [result.get(timeout=30) for result in results] == list(range(12))
    assert fetch.apply_async((1,), time_limit=20, soft_time_limit=15).get(timeout=30) == 1
