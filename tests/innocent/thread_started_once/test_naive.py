from tasks import emit


def test_emit(celery_pool_worker):
    assert all(emit.delay(number).get(timeout=10) for number in range(10))
    results = [emit.delay(number) for number in range(6)]
    assert all(result.get(timeout=10) for result in results)
