from tasks import convert


def test_convert(celery_pool_worker):
    assert [each.get(timeout=10) for each in [convert.delay(n) for n in range(4)]] == [1, 2, 3, 4]
