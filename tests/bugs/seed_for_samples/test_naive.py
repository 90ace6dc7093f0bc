from tasks import sample


def test_samples(celery_pool_worker):
    results = [sample.delay(7) for _ in range(3)]
    assert all(len(result.get(timeout=10)) == 4 for result in results)
