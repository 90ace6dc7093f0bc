from celery import Celery

from monitoring import monitored

app = Celery("mirror")


class NoSuchHost(Exception):
    pass


@app.task(throws=(NoSuchHost,))
@monitored(every=0.05)
def mirror(host):
    if host.endswith(".invalid"):
        raise NoSuchHost(host)
    return host.upper()
