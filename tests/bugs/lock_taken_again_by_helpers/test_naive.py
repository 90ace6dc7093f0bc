from tasks import balance, deposit, open_account


def test_all_deposits_count(celery_pool_worker):
    open_account.delay().get(timeout=10)
    for result in [deposit.delay(10) for _ in range(4)]:
        result.get(timeout=10)
    assert balance.delay().get(timeout=10) == 40
