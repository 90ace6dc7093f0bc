from celery import group

from tasks import track


def test_track(celery_pool_worker):
    assert all(group(track.s(n) for n in range(6)).apply_async().get(timeout=10))
