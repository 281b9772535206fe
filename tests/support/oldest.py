"""
The oldest version of each dependency, as constraints for pip.

    python oldest.py PYPROJECT
"""

import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
for dependency in project["dependencies"]:
    match = re.fullmatch(r"([\w-]+)(\[\w+\])? >= ([\d.]+)", dependency)
    assert match is not None, dependency
    print(f"{match[1]}=={match[3]}")
