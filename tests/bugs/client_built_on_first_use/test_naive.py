from tasks import mail


def test_mail(celery_pool_worker):
    results = [mail.delay("hi") for _ in range(3)]
    assert [each.get(timeout=10) for each in results] == [2, 2, 2]
