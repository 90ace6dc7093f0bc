from tasks import build


def test_build(celery_pool_worker):
    results = [build.delay(pause) for pause in (0.3, 0.1, 0.2, 0.1, 0.2)]
    assert all(result.get(timeout=10) for result in results)
