from celery import group
from tasks import predict


def test_predict(celery_pool_worker):
    scores = group(predict.s(value) for value in (1.0, 2.0, 3.0, 6.0))().get(timeout=10)
    assert scores == [-2.0, -1.0, 0.0, 3.0]
