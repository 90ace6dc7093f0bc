from tasks import write_secret


def test_secrets_are_written(celery_pool_worker):
    results = [write_secret.delay(f"secret{n}", 0.1 + 0.05 * n) for n in range(3)]
    assert all(result.get(timeout=10) for result in results)
