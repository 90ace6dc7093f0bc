from celery import group

from tasks import mail, reset_password


def test_newsletter_and_password(celery_pool_worker):
    issue = group(mail.s("User%d@x" % n) for n in range(13))()
    assert reset_password.delay("eve").get(timeout=40) == "token-eve"
    assert len(issue.get(timeout=60)) == 13
