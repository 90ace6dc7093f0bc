from tasks import lengths


def test_lengths(celery_pool_worker):
    assert lengths.delay(["a", "bcd"]).get(timeout=4) == [1, 3]
