"""
One run over several processes and machines: the parts of a Dask cluster open the connections,
and one coordinator has their books.
"""
