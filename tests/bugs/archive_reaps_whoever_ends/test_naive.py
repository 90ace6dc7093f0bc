import time

from tasks import archive, verify


def test_exit_codes(celery_pool_worker):
    archived = archive.delay("monday")
    time.sleep(0.15)
    verified = verify.delay("sunday")
    assert verified.get(timeout=10) == 3
    assert archived.get(timeout=10) == 1
