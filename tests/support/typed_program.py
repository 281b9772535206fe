"""
A whole program on the fast lane, by somebody who checks types. It installs the lane before it
imports the reactor. C{mypy --strict} has nothing to say about it, with and without
C{mypy-zope}.
"""

from echofactory.express import install

install()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.endpoints import TCP4ServerEndpoint  # noqa: E402
from twisted.plugins import echofactory_plugin  # noqa: E402

from echofactory import onExpress  # noqa: E402
from echofactory.express.epoll import ExpressEPollReactor  # noqa: E402

endpoint = TCP4ServerEndpoint(onExpress(reactor), 7007)
name: str = echofactory_plugin.expressReactor.shortName
other = ExpressEPollReactor()
