from tasks import track


def test_events(celery_pool_worker):
    results = [track.delay(event) for event in range(6)]
    assert [each.get(timeout=10) for each in results] == list(range(6))
