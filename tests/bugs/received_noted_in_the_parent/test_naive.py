from tasks import resize


def test_resize(celery_pool_worker):
    assert resize.delay("a.png").get(timeout=10)
