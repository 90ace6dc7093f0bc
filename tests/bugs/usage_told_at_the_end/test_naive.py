from tasks import thumbnail


def test_thumbnail(celery_pool_worker):
    results = [thumbnail.delay(256, 128), thumbnail.delay(100, 400)]
    assert [r.get(timeout=10) for r in results] == [[128, 64], [32, 128]]
