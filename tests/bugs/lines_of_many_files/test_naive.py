from tasks import errors


def test_errors(celery_pool_worker):
    a, b = errors.delay("fine", "error 1"), errors.delay("error 2", "fine")
    assert a.get(timeout=10) == [[2, "error 1"]]
    assert b.get(timeout=10) == [[1, "error 2"]]
