"""
The results of a run: counts, latencies, failures, and their JSON. No transport, no clock.
"""
