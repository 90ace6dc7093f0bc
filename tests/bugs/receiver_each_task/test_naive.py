from tasks import measure


def test_measure(celery_pool_worker):
    for n in range(8):
        assert measure.delay(f"m{n}").get(timeout=10) == f"m{n}"
