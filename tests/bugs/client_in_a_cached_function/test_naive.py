from tasks import mail


def test_mail(celery_pool_worker):
    results = [mail.delay(to) for to in ("ann", "bob", "eve")]
    assert [r.get(timeout=10) for r in results] == ["ann@eu", "bob@eu", "eve@eu"]
