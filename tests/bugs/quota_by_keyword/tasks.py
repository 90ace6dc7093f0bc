from celery import Celery

app = Celery("quotas")


class QuotaError(Exception):
    def __init__(self, user, *, limit):
        super().__init__(f"{user} used more than {limit}")
        self.user, self.limit = user, limit

    def __reduce__(self):
        return _quota_error, (self.user, self.limit)


def _quota_error(user, limit):
    return QuotaError(user, limit=limit)


@app.task
def store(user):
    raise QuotaError(user, limit=10)
