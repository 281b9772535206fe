"""
A Klein site: C{twistd web --class=klein_site.resource}.
"""

from klein import Klein
from twisted.internet import reactor
from twisted.internet.task import deferLater

app = Klein()


@app.route("/echo", methods=["POST"])
def echo(request):
    """Answer with the body."""
    return request.content.read()


@app.route("/later/<word>")
def later(request, word):
    """Answer after a turn of the reactor."""
    return deferLater(reactor, 0, word.encode)


resource = app.resource
