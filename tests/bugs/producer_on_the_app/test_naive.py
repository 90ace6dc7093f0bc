from tasks import emit


def test_emit(celery_pool_worker):
    results = [emit.delay("a") for _ in range(4)]
    assert [each.get(timeout=10) for each in results] == [2] * 4
