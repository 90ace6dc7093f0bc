from tasks import convert


def test_conversions(celery_pool_worker):
    results = [convert.delay("E" * length, 10) for length in (1, 2, 3, 1, 2, 3)]
    assert [result.get(timeout=10) for result in results] == [10, 20, 30, 10, 20, 30]
