import http.client

from celery import Celery

app = Celery("service")

connections = {}


@app.task
def ask(port, path):
    if port not in connections:
        connections[port] = http.client.HTTPConnection("127.0.0.1", port)
    connection = connections[port]
    connection.request("GET", path)
    return connection.getresponse().read().decode()
