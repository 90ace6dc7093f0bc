from tasks import predict


def test_predict(celery_pool_worker):
    predict.delay(2).get(timeout=10, propagate=False)
