from celery import group

from tasks import send


def test_send(celery_pool_worker):
    for n in range(5):
        job = group(send.s(f"{n}-{i}") for i in range(4)).apply_async()
        assert job.get(timeout=10) == [f"{n}-{i}" for i in range(4)]
