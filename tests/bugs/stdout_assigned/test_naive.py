from tasks import run_main


def test_main(celery_pool_worker):
    results = [run_main.delay(*each) for each in (("a", 0), ("b", 0.06))]
    for result in results:
        result.get(timeout=10, propagate=False)
