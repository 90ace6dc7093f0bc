from tasks import ask, hand_over


def test_answers(celery_pool_worker):
    results = [task.delay(word) for word in ("one", "two") for task in (ask, hand_over)]
    assert [result.get(timeout=10) for result in results] == ["one", "one", "two", "two"]
