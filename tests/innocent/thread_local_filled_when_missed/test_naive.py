from tasks import convert


def test_conversion(celery_pool_worker):
    results = [convert.delay(amount) for amount in (10, 20, 30)]
    assert [each.get(timeout=10) for each in results] == [11.0, 22.0, 33.0]
