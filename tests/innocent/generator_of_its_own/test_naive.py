from tasks import jitter, sample


def test_samples(celery_pool_worker):
    results = [sample.delay(7), jitter.delay(), sample.delay(7)]
    first, drew, second = (result.get(timeout=10) for result in results)
    assert first == second
    assert drew
