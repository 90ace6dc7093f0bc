from tasks import monthly


def test_monthly(celery_pool_worker):
    results = [monthly.delay(month) for month in (1, 2, 3)]
    assert [r.get(timeout=10) for r in results] == [1, 2, 3]
