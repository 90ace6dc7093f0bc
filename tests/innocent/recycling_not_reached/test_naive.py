from tasks import rows, run


def test_run(celery_pool_worker):
    assert [run.delay(n).get(timeout=30) for n in range(4)] == [0, 1, 2, 3]
    assert rows.delay(3).get(timeout=30) == [0, 1, 2]
