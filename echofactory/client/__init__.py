"""
The client: N connections to an echo server, every byte checked.
"""
