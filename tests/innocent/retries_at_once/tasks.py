from celery import Celery

app = Celery("bank")


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def charge(self, card):
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("the bank does not answer"))
    return f"charged {card}"
