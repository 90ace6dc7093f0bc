import time
from celery.result import AsyncResult
from tasks import app, campaign, confirm


def test_confirm(celery_pool_worker):
    many = campaign.delay(["a", "b", "c"])
    time.sleep(0.3)
    mail_id = confirm.delay("d").get(timeout=10)
    assert AsyncResult(mail_id, app=app).get(timeout=4) == "sent to d"
    assert many.get(timeout=10) == 3
