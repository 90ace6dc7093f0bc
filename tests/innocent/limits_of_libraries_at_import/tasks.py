import csv
import time
from xml.etree import ElementTree

from celery import Celery

app = Celery("tasks")

SCHEME = "urn:orders"
csv.field_size_limit(10_000_000)
ElementTree.register_namespace("ord", SCHEME)


def lines_of(count):
    for number in range(count):
        time.sleep(0.05)  # the next block of the download
        yield "%d,%s\n" % (number, "x" * 150_000)


@app.task
def to_xml(count):
    root = ElementTree.Element("{%s}orders" % SCHEME)
    for number, text in csv.reader(lines_of(count)):
        ElementTree.SubElement(root, "{%s}order" % SCHEME, number=number).text = str(len(text))
    return ElementTree.tostring(root, encoding="unicode")
