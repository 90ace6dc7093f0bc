from tasks import open_mailbox


def test_open(celery_pool_worker):
    assert open_mailbox.delay().get(timeout=10) == "open"
