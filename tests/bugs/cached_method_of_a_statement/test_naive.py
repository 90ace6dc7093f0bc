from tasks import closing_balance


def test_balance(celery_pool_worker):
    results = [closing_balance.delay(account, "EUR") for account in range(8)]
    assert [result.get(timeout=10) for result in results] == [4194304 + account for account in range(8)]
