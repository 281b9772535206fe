"""
The look-up of a target's name, with a limit on its time.
"""

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IReactorTime

from echofactory.client.deadline import addDeadline
from echofactory.client.target import Target


async def lookUp(target: Target, timeout: float, reactor: IReactorTime) -> None:
    """
    Look up the name of a target.

    @param timeout: in seconds.
    @raise DNSLookupError: if the name has no address, or if there is no answer in time.
    """
    looking = Deferred.fromCoroutine(target.resolve())
    addDeadline(looking, timeout, reactor)
    try:
        await looking
    except TimeoutError:
        raise DNSLookupError(f"no answer within {timeout:g} s") from None
