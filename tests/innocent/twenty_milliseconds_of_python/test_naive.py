from tasks import total


def test_totals(celery_pool_worker):
    results = [total.delay(number + 1) for number in range(6)]
    assert all(result.get(timeout=10) for result in results)
