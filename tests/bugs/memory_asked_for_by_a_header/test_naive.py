from tasks import thumbnail


def test_a_lying_header(celery_pool_worker):
    thumbnail.delay(1 << 20, 1 << 20).get(timeout=10, propagate=False)
    assert thumbnail.delay(10, 10).get(timeout=10) == 400
