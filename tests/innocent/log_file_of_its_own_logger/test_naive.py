from tasks import job


def test_jobs(celery_pool_worker):
    assert [each.get(timeout=10) for each in [job.delay(n) for n in range(3)]] == [3, 3, 3]
