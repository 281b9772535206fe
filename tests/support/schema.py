"""
The check of JSON results against the schema in the package.
"""

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

from echofactory.results.json import fromJSON, toJSON
from echofactory.workload.settings import Workload

FACTS = Workload(size=64).facts()
"""What results say of their workload, where that does not matter."""

_SCHEMA = json.loads(files("echofactory").joinpath("results.schema.json").read_text())
Draft202012Validator.check_schema(_SCHEMA)


def validate(results: object) -> Any:
    """
    Return the results, which follow the schema, whose books balance, and which can
    be read back with nothing lost.
    """
    Draft202012Validator(_SCHEMA).validate(results)
    assert isinstance(results, dict)
    messages, connections = results["messages"], results["connections"]
    assert messages["sent"] == (
        messages["verified"] + messages["mismatched"] + messages["unanswered"]
    )
    if messages["due"] is not None:
        assert messages["due"] == messages["sent"] + messages["unsent"]
    assert connections["failed"] == sum(results["failures"].values())
    settled = connections["completed"] + connections["failed"]
    search = results["find_rate"]
    early = search is not None and search["steps"][-1]["ended_early"]
    if results["verdict"] == "interrupted" or early:
        assert settled <= connections["requested"]
    else:
        assert settled == connections["requested"]
    assert toJSON(fromJSON(results), results["version"]) == results
    return results
