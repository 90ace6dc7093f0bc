from tasks import fit, score


def test_fit(celery_pool_worker):
    results = [score.delay(), fit.delay(3)]
    assert results[1].get(timeout=10) == 3
    results[0].get(timeout=10)
