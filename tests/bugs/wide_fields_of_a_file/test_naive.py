from tasks import longest


def test_longest(celery_pool_worker):
    results = [longest.delay(2, 0.15), longest.delay(4, 0.15), longest.delay(3, 0.2)]
    assert [result.get(timeout=10) for result in results] == [200_000] * 3
