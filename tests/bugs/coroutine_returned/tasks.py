from celery import Celery

app = Celery("lookups")


async def ask(name):
    return name.upper()


@app.task
def lookup(name):
    return ask(name)
