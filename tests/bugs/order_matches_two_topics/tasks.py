from celery import Celery
from kombu import Exchange, Queue

shop = Exchange("shop", type="topic")

app = Celery("orders")
app.conf.task_queues = [
    Queue("orders", shop, routing_key="order.#"),
    Queue("express", shop, routing_key="order.express"),
]
app.conf.task_default_queue = "orders"
app.conf.task_routes = {"tasks.ship": {"queue": "express", "routing_key": "order.express"}}


@app.task
def ship(order):
    return f"shipped {order}"
