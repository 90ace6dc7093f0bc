from tasks import solve


def test_solve(celery_pool_worker):
    results = [solve.delay(model) for model in range(2)]
    for each in results:
        each.get(timeout=10, propagate=False)
