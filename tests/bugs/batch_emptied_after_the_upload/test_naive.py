from tasks import track


def test_events(celery_pool_worker):
    for each in [track.delay(event) for event in range(4)]:
        each.get(timeout=10)
