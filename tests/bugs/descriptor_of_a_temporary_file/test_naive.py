from tasks import stamp


def test_stamp(celery_pool_worker):
    for n in range(1, 9):
        assert stamp.delay("x" * n).get(timeout=10) == n
