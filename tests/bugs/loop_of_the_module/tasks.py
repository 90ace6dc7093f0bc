import asyncio

from celery import Celery

app = Celery("prices")

loop = asyncio.new_event_loop()


async def price(article):
    await asyncio.sleep(0.2)
    return len(article)


@app.task
def ask(article):
    answer = price(article)
    try:
        return loop.run_until_complete(answer)
    finally:
        answer.close()
