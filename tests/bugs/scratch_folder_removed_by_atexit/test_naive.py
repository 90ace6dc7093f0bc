from tasks import thumbnail


def test_thumbnails(celery_pool_worker):
    for name in ("a.png", "b.png"):
        assert thumbnail.delay(name).get(timeout=10) == name
