from tasks import build


def test_builds(celery_pool_worker):
    assert [each.get(timeout=10) for each in [build.delay(name) for name in "abc"]] == ["a", "b", "c"]
