from tasks import remind


def test_remind(celery_pool_worker, tmp_path):
    results = [remind.delay(str(tmp_path), number) for number in (1, 1, 2, 2, 1, 2, 1)]
    assert sum(result.get(timeout=10) for result in results) == 2
