from tasks import archive, first


def test_archive(celery_pool_worker):
    assert archive.delay("letters").get(timeout=20) == "letters.tar"


def test_first(celery_pool_worker):
    assert first.delay("letters").get(timeout=10) == "l"
