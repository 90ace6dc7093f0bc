from tasks import step


def test_step(celery_pool_worker):
    results = [step.delay(number) for number in range(3)]
    assert [each.get(timeout=10) for each in results] == [0, 1, 2]
