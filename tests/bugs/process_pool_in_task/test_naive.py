from tasks import squares


def test_squares(celery_pool_worker):
    squares.delay([1, 2]).get(timeout=10, propagate=False)
