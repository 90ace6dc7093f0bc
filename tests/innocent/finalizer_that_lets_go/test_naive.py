from tasks import export


def test_export(celery_pool_worker):
    results = [export.delay("ab", 3) for _ in range(6)]
    assert [result.get(timeout=10) for result in results] == [15] * 6
