from celery import Celery

app = Celery("gateway")


class GatewayError(Exception):
    pass


@app.task
def pay(amount):
    error = GatewayError("declined")
    error.answer = {"code": 51, "amount": amount}
    raise error
