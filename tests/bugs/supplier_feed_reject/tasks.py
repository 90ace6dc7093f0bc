from celery import Celery
from celery.exceptions import Reject

app = Celery("shop")


class FeedError(Exception):
    def __init__(self, line, reason):
        super().__init__(f"line {line}: {reason}")
        self.line = line


def parse(text):
    prices = {}
    for number, line in enumerate(text.splitlines(), 1):
        sku, _, price = line.partition(";")
        if not price:
            raise FeedError(number, "no price")
        prices[sku] = float(price)
    return prices


@app.task(acks_late=True)
def load_feed(text):
    try:
        prices = parse(text)
    except FeedError as exc:
        raise Reject(exc, requeue=False)
    return len(prices)
