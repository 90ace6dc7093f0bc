import structlog
from celery import Celery
from structlog.contextvars import bind_contextvars, get_contextvars, merge_contextvars

app = Celery("tickets")
structlog.configure(processors=[merge_contextvars, structlog.processors.JSONRenderer()])
log = structlog.get_logger()


@app.task
def handle(ticket, tenant=None):
    if tenant:
        bind_contextvars(tenant=tenant)
    log.info("handled", ticket=ticket)
    return get_contextvars().get("tenant")
