from tasks import upload


def test_upload(celery_pool_worker):
    for number in range(1, 9):
        assert upload.delay("x" * number).get(timeout=10) == number
