from tasks import write_secret


def test_secrets(celery_pool_worker):
    for number in range(3):
        assert write_secret.delay(f"secret{number}").get(timeout=10) == 0o600
