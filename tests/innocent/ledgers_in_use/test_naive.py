from celery import group

from tasks import enter


def test_enter(celery_pool_worker, tmp_path):
    job = group(enter.s(str(tmp_path / f"{n % 3}.txt"), n) for n in range(6)).apply_async()
    assert job.get(timeout=10) == [0, 1, 2, 3, 4, 5]
