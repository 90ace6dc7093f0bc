from tasks import track


def test_track(celery_pool_worker):
    results = [track.delay("acme", n) for n in range(6)]
    assert sum(r.get(timeout=10) for r in results) == 15
