import time
from xml.etree import ElementTree

from celery import Celery

app = Celery("tasks")


class Document:
    def __init__(self, scheme):
        self.scheme = scheme
        ElementTree.register_namespace("inv", scheme)
        self.root = ElementTree.Element("{%s}invoice" % scheme)

    def line(self, text):
        ElementTree.SubElement(self.root, "{%s}line" % self.scheme).text = text

    def __str__(self):
        return ElementTree.tostring(self.root, encoding="unicode")


@app.task
def invoice(country, lines):
    document = Document("urn:invoice:" + country)
    for line in lines:
        time.sleep(0.1)  # the price of the line
        document.line(line)
    return str(document)
