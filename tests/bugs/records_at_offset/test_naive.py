from tasks import balance


def test_balance(celery_pool_worker):
    assert [balance.delay(number).get(timeout=10) for number in (3, 700, 12)] == [3, 700, 12]
