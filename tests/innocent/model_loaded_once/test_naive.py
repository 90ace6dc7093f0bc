from tasks import infer


def test_infer(celery_pool_worker):
    results = [infer.delay(number) for number in range(4)]
    assert [result.get(timeout=10) for result in results] == [0, 1, 2, 3]
