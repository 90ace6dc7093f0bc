from celery import group
from tasks import track


def test_track(celery_pool_worker, tmp_path):
    path = str(tmp_path / "events")
    assert group(track.s(path, n) for n in range(4)).delay().get(timeout=10) == [0, 1, 2, 3]
