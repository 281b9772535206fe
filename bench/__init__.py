"""
What an echo costs here, beside what it costs others: C{python -m bench}.
"""
