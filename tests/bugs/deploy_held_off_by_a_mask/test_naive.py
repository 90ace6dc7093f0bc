from tasks import transfer


def test_transfer(celery_pool_worker):
    results = [transfer.delay(100, 0.2), transfer.delay(50, 0.4)]
    assert [result.get(timeout=10) for result in results] == [0, 0]
