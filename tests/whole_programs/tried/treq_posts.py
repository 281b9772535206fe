"""
A client on treq: posts bodies to each address, several at once, and compares the answers.

    python treq_posts.py ADDRESS...
"""

import hashlib
import sys

import treq
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

SIZES = [1, 1000, 100_000, 1_000_000]


async def post(address, size):
    """Post a body and compare what comes back."""
    body = hashlib.shake_256(address.encode()).digest(size)
    response = await treq.post(address, data=body)
    assert response.code == 200, response.code
    assert await treq.content(response) == body
    return size


async def main(reactor, *addresses):
    """Post everything."""
    posts = [
        Deferred.fromCoroutine(post(address, size)) for address in addresses for size in SIZES
    ]
    sizes = await gatherResults(posts, consumeErrors=True)
    print("same bytes:", sum(sizes))


react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
