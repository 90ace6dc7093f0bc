from tasks import train


def test_train(celery_pool_worker):
    train.delay("resnet").get(timeout=10, propagate=False)
