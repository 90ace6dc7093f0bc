from tasks import pull


def test_pull(celery_pool_worker):
    results = [pull.delay(account) for account in ("north", "south", "west")]
    assert all(each.get(timeout=10)[0] == "/orders" for each in results)
