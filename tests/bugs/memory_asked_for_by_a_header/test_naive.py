from tasks import thumbnail


def test_an_honest_header(celery_pool_worker):
    assert thumbnail.delay(10, 10).get(timeout=10) == 400


def test_a_lying_header(celery_pool_worker):
    thumbnail.delay(1 << 40, 1 << 20).get(timeout=10, propagate=False)
