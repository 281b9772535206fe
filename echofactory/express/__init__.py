"""
The fast lane: C{express:} in an endpoint string. It stands on Twisted alone.
"""
