from tasks import ask


def test_asks(celery_pool_worker):
    assert [each.get(timeout=10) for each in [ask.delay(n) for n in range(4)]] == [0, 1, 2, 3]
