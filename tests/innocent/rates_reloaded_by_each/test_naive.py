from tasks import convert


def test_amounts(celery_pool_worker):
    results = [convert.delay(amount) for amount in range(6)]
    assert [each.get(timeout=10) for each in results] == [5 * amount for amount in range(6)]
