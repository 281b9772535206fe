"""
A page on klein: klein_page.py REACTOR PORT, where REACTOR is a name that twistd --reactor
takes.
"""

import sys

from twisted.application.reactors import installReactor

installReactor(sys.argv[1])

from klein import Klein
from twisted.internet import endpoints, reactor
from twisted.web.server import Site

app = Klein()


@app.route("/echo/<word>")
def echo(request, word):
    return word.encode()


endpoint = endpoints.serverFromString(reactor, f"tcp:{sys.argv[2]}:interface=127.0.0.1")
endpoint.listen(Site(app.resource()))
reactor.run()
