from tasks import transfer


def test_transfer(celery_pool_worker):
    for n in range(5):
        assert transfer.delay("ann", "bob", n).get(timeout=20) == n
