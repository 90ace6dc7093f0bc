import http.client
import os

from celery import Celery

app = Celery("weather")
api = http.client.HTTPConnection("127.0.0.1", int(os.environ["API_PORT"]))
api.connect()


@app.task
def forecast(city):
    api.request("GET", f"/{city}")
    return api.getresponse().read().decode()
