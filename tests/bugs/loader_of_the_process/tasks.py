from celery import Celery

from loading import ShopLoader, limits

app = Celery("orders", loader=ShopLoader)


@app.task
def accept(amount):
    return "accepted" if amount <= limits.get("order", 0) else "too much"
