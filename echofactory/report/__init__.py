"""
The results for people: text, plots, a page; of one run, or of several compared.
"""
