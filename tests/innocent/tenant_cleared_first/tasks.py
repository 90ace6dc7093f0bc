import structlog
from celery import Celery
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

app = Celery("tickets")
log = structlog.get_logger()


@app.task
def handle(ticket, tenant=None):
    clear_contextvars()
    if tenant:
        bind_contextvars(tenant=tenant)
    log.info("handled", ticket=ticket)
    return get_contextvars().get("tenant")
