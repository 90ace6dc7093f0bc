from tasks import log, report


def test_report(celery_pool_worker):
    results = [task.delay(text) for text in ("a", "b", "c") for task in (log, report)]
    assert [each.get(timeout=10) for each in results] == ["a", "a", "b", "b", "c", "c"]
