from tasks import build_index


def test_build_index(celery_pool_worker):
    assert build_index.delay(4).get(timeout=10) == 4
