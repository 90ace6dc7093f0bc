from tasks import track


def test_sizes(celery_pool_worker):
    results = [track.delay(size) for size in (4, 5, 6, 7, 8)]
    assert [each.get(timeout=10) for each in results] == [4, 5, 6, 7, 8]
