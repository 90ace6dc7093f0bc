from tasks import thumbnails


def test_thumbnails(celery_pool_worker):
    for _ in range(8):
        assert thumbnails.delay([640, 320]).get(timeout=10) == [320, 160]
