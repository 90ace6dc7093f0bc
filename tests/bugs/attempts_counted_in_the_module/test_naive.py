from tasks import charge


def test_charge(celery_pool_worker):
    results = [charge.delay("a" * length) for length in (5, 1, 3, 2, 4, 6)]
    assert [result.get(timeout=10) for result in results] == [3] * 6
