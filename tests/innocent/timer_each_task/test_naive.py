from tasks import hold


def test_hold(celery_pool_worker):
    for n in range(8):
        assert hold.delay(f"n{n}").get(timeout=10) == f"n{n}"
