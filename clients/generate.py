#!/usr/bin/env python3
"""Writes the types of the clients from docs/openapi.json: clients/generate.py [--check]

clients/typescript/types.ts and clients/rust/src/types.rs are this script's output and nothing else. With --check it writes nothing, and
says which of them is not what the document asks for.
"""

import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/openapi.json"
REFERENCE = "#/components/schemas/"
# What a service answers with that is no part of an application's contract.
OPERATIONS = ("recommend", "similarVideos", "batchRecommendations", "recordEvents")


def referred(schema):
    """Names of the schemas that a schema refers to."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if reference:
            yield reference.removeprefix(REFERENCE)
        for value in schema.values():
            yield from referred(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from referred(value)


def reached(schemas, names):
    """The schemas that one gets to from `names`, those included."""
    found, ahead = set(), list(names)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += referred(schemas[name])
    return found


class Contract:
    """The schemas of OPERATIONS, in the order of their names, and which of them stand in answers."""

    def __init__(self, document):
        self.schemas = document["components"]["schemas"]
        operations = {
            operation["operationId"]: (path, operation)
            for path, methods in document["paths"].items()
            for operation in methods.values()
        }
        asked, answered = set(), set()
        self.paths = {}
        for name in OPERATIONS:
            self.paths[name], operation = operations[name]
            asked |= set(referred(operation["requestBody"]))
            answered |= set(referred(operation["responses"]))
        self.answers = reached(self.schemas, answered)
        self.names = sorted(reached(self.schemas, asked) | self.answers)
        for name in self.names:
            known(name, self.schemas[name])


KNOWN = {
    "$ref", "additionalProperties", "default", "description", "enum", "format", "items", "maxItems", "maxLength", "maximum",
    "minItems", "minLength", "minimum", "oneOf", "properties", "required", "type",
}


def known(name, schema):
    """Refuses a document that says something that is not understood here, instead of leaving it out."""
    unknown = set(schema) - KNOWN
    if unknown:
        sys.exit(f"clients/generate.py: {name} of the document has {sorted(unknown)}, which this script does not know")
    for field, inner in schema.get("properties", {}).items():
        known(f"{name}.{field}", inner)
    for inner in [schema.get("items"), *schema.get("oneOf", [])]:
        if inner:
            known(name, inner)


def bounds(schema):
    """What the type does not say: least and most, and what an absent field stands for."""
    words = []
    for least, most, unit in (("minimum", "maximum", ""), ("minItems", "maxItems", " items"), ("minLength", "maxLength", " characters")):
        low, high = schema.get(least), schema.get(most)
        if low is not None and high is not None:
            words.append(f"{low} to {high}{unit}")
        elif low is not None:
            words.append(f"at least {low}{unit}")
        elif high is not None:
            words.append(f"at most {high}{unit}")
    if "default" in schema:
        words.append(f"{json.dumps(schema['default'])} if absent")
    return "; ".join(words)


def sentence(schema):
    text, more = schema.get("description", ""), bounds(schema)
    if more:
        more = more[0].upper() + more[1:] + "."
    return " ".join(part for part in (text, more) if part)


def inline(parent, schema):
    """The name of an object that has none: an alternative of `parent`, called after the last of its required fields."""
    return parent + "".join(part.capitalize() for part in schema["required"][-1].split("_"))


# TypeScript


def typescript(contract):
    parts = ["// From docs/openapi.json by clients/generate.py; changes belong there.", ""]
    for name in contract.names:
        schema = contract.schemas[name]
        parts += typescript_comment(sentence(schema), "")
        if "properties" in schema:
            parts += typescript_object(name, schema)
        else:
            for other in schema.get("oneOf", []):
                if "properties" in other:
                    # Declared first, so that its comment is not the one above.
                    at = len(parts) - len(typescript_comment(sentence(schema), ""))
                    parts[at:at] = [*typescript_object(inline(name, other), other), ""]
            parts += typescript_alias(name, typescript_type(name, schema))
        parts.append("")
    return "\n".join(parts)


def typescript_comment(text, indent):
    return [f"{indent}/** {text} */"] if text else []


def typescript_alias(name, kind):
    line = f"export type {name} = {kind};"
    if len(line) <= 120:
        return [line]
    *others, last = kind.split(" | ")
    return [f"export type {name} =", *(f"  | {other}" for other in others), f"  | {last};"]


def typescript_object(name, schema):
    required = schema.get("required", [])
    lines = [f"export interface {name} {{"]
    for field, inner in schema["properties"].items():
        lines += typescript_comment(sentence(inner), "  ")
        optional = "" if field in required else "?"
        lines.append(f"  {field}{optional}: {typescript_type(name, inner)};")
    return [*lines, "}"]


def typescript_type(parent, schema):
    if "$ref" in schema:
        return schema["$ref"].removeprefix(REFERENCE)
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "oneOf" in schema:
        others = schema["oneOf"]
        return " | ".join(inline(parent, other) if "properties" in other else typescript_type(parent, other) for other in others)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    names = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}
    if kinds == ["array"]:
        return typescript_type(parent, schema["items"]) + "[]"
    return " | ".join(names[kind] for kind in kinds)


# Rust


def rust(contract):
    parts = [
        "//! From docs/openapi.json by clients/generate.py; changes belong there.",
        "",
        "use serde::{Deserialize, Serialize};",
        "use uuid::Uuid;",
        "",
    ]
    for name in contract.names:
        schema = contract.schemas[name]
        answer = name in contract.answers
        for other in schema.get("oneOf", []):
            if "properties" in other:
                parts += [*rust_object(inline(name, other), other, answer), ""]
        if "properties" in schema:
            parts += rust_object(name, schema, answer)
        elif "enum" in schema:
            parts += rust_enum(name, schema, answer)
        elif "oneOf" in schema:
            parts += rust_alternatives(name, schema)
        else:
            parts += [*rust_comment(sentence(schema), ""), f"pub type {name} = {rust_type(schema)};"]
        parts.append("")
    return "\n".join(parts)


def rust_comment(text, indent):
    return [f"{indent}/// {line}" for line in textwrap.wrap(text, 110)] if text else []


def rust_derive(*more):
    return f"#[derive({', '.join(['Debug', 'Clone', 'PartialEq', *more, 'Serialize', 'Deserialize'])})]"


def rust_object(name, schema, answer):
    required = schema.get("required", [])
    lines = rust_comment(sentence(schema), "")
    # Who asks names what matters and leaves the rest to `..Default::default()`.
    complete = all(schema["properties"][field].get("type") for field in required)
    lines.append(rust_derive(*(["Default"] if complete and not answer else [])))
    if answer:
        lines.append("#[non_exhaustive]")
    lines.append(f"pub struct {name} {{")
    for field, inner in schema["properties"].items():
        lines += rust_comment(sentence(inner), "    ")
        kind = rust_type(inner)
        if field not in required:
            lines.append('    #[serde(default, skip_serializing_if = "Option::is_none")]')
            kind = f"Option<{kind}>"
        lines.append(f"    pub {field}: {kind},")
    return [*lines, "}"]


def rust_enum(name, schema, answer):
    lines = rust_comment(sentence(schema), "")
    lines += [rust_derive("Copy", "Eq"), '#[serde(rename_all = "snake_case")]']
    if answer:
        lines.append("#[non_exhaustive]")
    lines.append(f"pub enum {name} {{")
    for value in schema["enum"]:
        variant = "".join(part.capitalize() for part in value.split("_"))
        lines += [f"    /// `{value}`", f"    {variant},"]
    if answer:
        lines += ["    /// One that a later server has and this version does not know.", "    #[serde(other)]", "    Unknown,"]
    return [*lines, "}"]


def rust_alternatives(name, schema):
    lines = rust_comment(sentence(schema), "")
    lines += [rust_derive(), "#[serde(untagged)]", "#[non_exhaustive]", f"pub enum {name} {{"]
    for other in schema["oneOf"]:
        kind = inline(name, other) if "properties" in other else rust_type(other)
        lines += [f"    /// [`{kind}`]", f"    {kind.removeprefix(name)}({kind}),"]
    return [*lines, "}"]


def rust_type(schema):
    if "$ref" in schema:
        return schema["$ref"].removeprefix(REFERENCE)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "null" in kinds:
        (kind,) = [kind for kind in kinds if kind != "null"]
        return f"Option<{rust_type({**schema, 'type': kind})}>"
    (kind,) = kinds
    if kind == "array":
        return f"Vec<{rust_type(schema['items'])}>"
    if kind == "integer":
        return ("u" if schema.get("minimum", -1) >= 0 else "i") + re.sub(r"\D", "", schema["format"])
    if kind == "number":
        return {"float": "f32", "double": "f64"}[schema["format"]]
    if kind == "string":
        return "Uuid" if schema.get("format") == "uuid" else "String"
    return {"boolean": "bool"}[kind]


def main():
    contract = Contract(json.loads(DOCUMENT.read_text(encoding="utf-8")))
    written = {"typescript/types.ts": typescript(contract), "rust/src/types.rs": rust(contract)}
    stale = []
    for name, text in written.items():
        path = ROOT / "clients" / name
        if sys.argv[1:] == ["--check"]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"not what docs/openapi.json asks for: {', '.join(stale)}. Run clients/generate.py")


if __name__ == "__main__":
    main()
