"""
The page of the JSON, docs/schema.md, from the schema in the package:

    python tests/support/schema_page.py >docs/schema.md
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from math import log10
from typing import Any

SCHEMA: dict[str, Any] = json.loads(
    files("echofactory").joinpath("results.schema.json").read_text("utf-8")
)

_HEAD = """\
<!-- Written by: python tests/support/schema_page.py >docs/schema.md -->

# The JSON, field by field

This page lists every field of the JSON that `--json` writes, version `{version}`.
The schema itself is `results.schema.json` in the package. [results.md](results.md#json) says
how the fields belong together.

Every field is always there, unless its meaning says otherwise. `null` means that the figure
does not exist or is not known.

| type | values |
|---|---|
| count | a whole number from {count} |
| seconds | a number from {seconds} |
| reading | nanoseconds, a number from {reading}, or null |
| text | a string |
"""

_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

_NAMES = {"string": "text", "boolean": "true, false", "null": "null"}


def _figure(number: float) -> str:
    """Return a bound as people write it."""
    if number < 1e6:
        return f"{number:,}"
    return "10" + str(round(log10(number))).translate(_RAISED)


def _range(schema: dict[str, Any]) -> str:
    """Return the range of a number: C{0 to 1}, C{1 or more}; empty: there is none."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    above = "above " if "exclusiveMinimum" in schema else ""
    if low is None:
        return ""
    if high is None:
        return f" {above}{_figure(low)}" if above else f", {_figure(low)} or more"
    return f" from {above}{_figure(low)} to {_figure(high)}"


def _simple(schema: dict[str, Any], kind: str) -> str:
    """Return the type of a value that is no object and no list."""
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + _range(schema)
    if kind == "string" and "maxLength" in schema:
        return f"text of up to {schema['maxLength']} characters"
    return _NAMES[kind]


def typeOf(schema: dict[str, Any], path: str) -> str:
    """
    Return the type of a field, as Markdown.

    @param path: the field's place, which is the heading of its own fields.
    """
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if name in ("count", "seconds", "reading") else f"[{name}](#{name})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(typeOf(each, path) for each in schema["anyOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    texts = []
    for kind in kinds:
        if kind == "object":
            link = f"[object](#{anchor(path)})" if fieldsOf(schema) else "object"
            texts.append(link + (" by key" if "propertyNames" in schema else ""))
        elif kind == "array":
            items = schema["items"]
            inner = f"[objects](#{anchor(path)})" if fieldsOf(items) else typeOf(items, path)
            texts.append(f"list of {inner}")
        else:
            texts.append(_simple(schema, kind))
    return " or ".join(texts)


def anchor(path: str) -> str:
    """Return what a link to a heading names."""
    return path.replace(".", "")


def fieldsOf(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an object, or of the objects that it has by key; empty: none."""
    found: dict[str, Any] = schema.get("properties", {})
    values = schema.get("additionalProperties")
    return found or (values.get("properties", {}) if isinstance(values, dict) else {})


def _section(fields: dict[str, Any], path: str) -> Iterator[str]:
    """Return a table of fields, and the sections of those that have fields of their own."""
    yield from ["| field | type | meaning |", "|---|---|---|"]
    for name, field in fields.items():
        place = f"{path}.{name}" if path else name
        kind = typeOf(field, place).replace("|", "\\|")
        yield f"| `{name}` | {kind} | {field['description'].replace('|', chr(92) + '|')} |"
    for name, field in fields.items():
        place = f"{path}.{name}" if path else name
        for each in (field, field.get("items", {}), *field.get("anyOf", [])):
            if inner := fieldsOf(each):
                yield from ["", f"## {place}", "", field["description"], ""]
                yield from _section(inner, place)


def page() -> str:
    """
    Return the page, as Markdown.

    @raise KeyError: a field has no description.
    """
    known = SCHEMA["$defs"]
    lines = ["", "## The object", "", *_section(SCHEMA["properties"], "")]
    for name in ("latency", "failures", "kind"):
        definition = known[name]
        lines += ["", f"## {name}", ""]
        if inner := fieldsOf(definition):
            lines += [definition["description"], "", *_section(inner, name)]
        elif name == "failures":
            lines += [
                "An object: how many connections failed, by [kind](#kind)."
                " A kind without failures is absent."
            ]
        else:
            lines += [f"One of {typeOf(definition, name)}. [results.md](results.md#failures)"]
            lines[-1] += " explains them."
    head = _HEAD.format(
        version=SCHEMA["properties"]["schema"]["const"],
        **{
            name: _range(known[name]).removeprefix(" from ")
            for name in ("count", "seconds", "reading")
        },
    )
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
