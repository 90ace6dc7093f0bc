from celery import group

from tasks import pickup_mail


def test_mail_speaks_the_customers_language(celery_pool_worker):
    mails = group(pickup_mail.s(language) for language in ("de", "fr", "en")).apply_async().get(timeout=10)
    assert mails == ["Sonntag 10:00", "dimanche 10:00", "Sunday 10:00"]
