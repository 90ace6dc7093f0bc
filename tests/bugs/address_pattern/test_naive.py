from tasks import check


def test_one_is_wrong(celery_pool_worker):
    assert check.delay(["fine words", "a" * 23 + "!"]).get(timeout=10) == ["fine words"]
