from tasks import convert


def test_exit_code_is_reported(celery_pool_worker):
    jobs = [(0.6, 3), (0.4, 4), (0.2, 5)]
    sent = [convert.delay(seconds, quality) for seconds, quality in jobs]
    assert [r.get(timeout=10) for r in sent] == [3, 4, 5]
