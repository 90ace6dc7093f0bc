from tasks import load


def test_peaks(celery_pool_worker):
    results = [load.delay(1000, seconds) for seconds in (0.1, 0.3, 0.3)]
    assert all(peak > 1_000_000 for _, peak in [each.get(timeout=10) for each in results])
