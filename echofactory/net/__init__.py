"""
What the other rooms need of the network and of the operating system.
"""
