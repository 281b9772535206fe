"""
What came of a run: counts, latencies, failures, and their JSON. Pure.
"""
