"""
C{python -m echofactory}: the command C{echofactory}.
"""

from echofactory.cli.main import main

if __name__ == "__main__":
    main()
