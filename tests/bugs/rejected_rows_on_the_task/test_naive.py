from tasks import import_rows


def test_rejected_rows(celery_pool_worker):
    first = import_rows.delay([1, -2, 3, -4])
    second = import_rows.delay([-5, 6, -7, 8])
    assert first.get(timeout=10) == [-2, -4]
    assert second.get(timeout=10) == [-5, -7]
