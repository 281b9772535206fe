"""
Several processes that serve one set of ports.
"""
