import time

from tasks import send_batch


def test_within(celery_pool_worker):
    assert send_batch.delay(10, 3).get(timeout=20) == 3


def test_over_is_skipped(celery_pool_worker):
    job = send_batch.delay(1, 3)
    until = time.monotonic() + 15
    while job.state == "PENDING" and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.7)
    assert job.state == "SKIPPED"
