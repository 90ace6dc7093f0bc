from tasks import build, collect


def test_build(celery_pool_worker):
    results = [collect.delay(), build.delay("lib")]
    assert results[1].get(timeout=10) == "lib"
    results[0].get(timeout=10)
