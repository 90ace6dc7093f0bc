"""The HTTP interface: ``uvicorn orders.api:api``."""

from celery import chord
from celery.result import AsyncResult
from fastapi import FastAPI
from pydantic import BaseModel, Field

from orders.tasks import app, charge, reserve, send_mail

api = FastAPI(title="orders")


class Item(BaseModel):
    """So many of an article."""

    article: str
    quantity: int = Field(gt=0)


class Order(BaseModel):
    """What a customer wants."""

    customer: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    card: str = Field(min_length=4)
    items: list[Item] = Field(min_length=1)


# Publishing talks to the broker and blocks meanwhile: as ``def``, not ``async def``, FastAPI gives these functions to a
# thread, and its loop goes on.
@api.post("/orders", status_code=202)
def place(order: Order) -> dict[str, str]:
    """Take an order: all its articles are reserved at once, then the card is charged."""
    parts = [reserve.s(item.article, item.quantity) for item in order.items]
    charged = chord(parts)(charge.s(order.card))
    send_mail.delay(order.customer, "We have your order.")
    return {"id": charged.id}


@api.get("/orders/{order}")
def look(order: str) -> dict[str, object]:
    """Say how far an order is."""
    result = AsyncResult(order, app=app)
    if result.failed():
        return {"state": "FAILURE", "reason": str(result.result)}
    return {"state": result.state, "bill": result.result if result.successful() else None}
