from tasks import upload


def test_upload(celery_pool_worker):
    results = [upload.delay(number) for number in range(2)]
    for each in results:
        each.get(timeout=10, propagate=False)
