"""
The echo server: protocol, limits, counts, UDP, faults and workers.
"""
