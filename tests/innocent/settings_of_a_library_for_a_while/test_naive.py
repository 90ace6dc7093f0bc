from tasks import thumbnail


def test_thumbnails(celery_pool_worker):
    assert [each.get(timeout=10) for each in [thumbnail.delay("x") for _ in range(3)]] == [95, 95, 95]
