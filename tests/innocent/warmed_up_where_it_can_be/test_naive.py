from tasks import infer


def test_infer(celery_pool_worker):
    assert [infer.delay(n).get(timeout=30) for n in range(3)] == [0, 3, 6]
