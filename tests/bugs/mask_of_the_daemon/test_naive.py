from tasks import archive


def test_archive(celery_pool_worker):
    assert archive.delay("a").get(timeout=10) == "0o664"
