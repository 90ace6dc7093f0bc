from tasks import read


def test_read(celery_pool_worker):
    assert [read.delay(n).get(timeout=30) for n in range(3)] == [0, 2, 4]
