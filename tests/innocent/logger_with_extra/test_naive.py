from tasks import job


def test_jobs(celery_pool_worker):
    assert [each.get(timeout=10) for each in [job.delay(n) for n in range(4)]] == [0, 1, 2, 3]
