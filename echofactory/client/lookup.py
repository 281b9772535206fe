"""
The look-up of a target's name, with a limit on its time.
"""

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IReactorTime

from echofactory.client.deadline import addDeadline
from echofactory.client.target import Target


async def lookUpProblem(target: Target, timeout: float, reactor: IReactorTime) -> str | None:
    """
    Look up the name of a target. Return why it has no address; C{None}: it has one.

    @param timeout: in seconds.
    """
    looking = Deferred.fromCoroutine(target.resolve())
    addDeadline(looking, timeout, reactor)
    try:
        await looking
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except DNSLookupError as reason:
        return str(reason)
    return None
