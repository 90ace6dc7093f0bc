from tasks import audit


def test_audit(celery_pool_worker):
    assert audit.delay("login").get(timeout=10) == "login"
    assert audit.delay("logout").get(timeout=10) == "logout"
