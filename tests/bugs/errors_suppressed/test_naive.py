from tasks import thumbnail


def test_thumbnail(celery_pool_worker):
    assert thumbnail.delay(1.4).get(timeout=10) == "done"
