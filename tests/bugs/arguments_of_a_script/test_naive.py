from tasks import monthly


def test_monthly(celery_pool_worker):
    results = [monthly.delay(month) for month in ("jan", "feb", "mar")]
    assert all(result.get(timeout=10) for result in results)
