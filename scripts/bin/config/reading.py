# SPDX-License-Identifier: MIT
"""Reads a configuration, strictly. Every fault is a BadConfig whose text is one sentence."""

import json
import math
import os
import re

import child

SIZE_MAX = 64 << 10
NAMES = ("config.yaml", "config.yml", "config.json")


class BadConfig(Exception):
    """What is wrong with the configuration, in one sentence."""


class NoYaml(Exception):
    """This host cannot read YAML."""


def quoted(value):
    """A value of the configuration, fit for a sentence."""
    try:
        return child.shown(repr(value), 60)
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes
        return "that"


def unique(pairs, where=""):
    found = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise BadConfig(f"the key {quoted(key)}{where} is not a text")
        if key in found:
            raise BadConfig(f"the key '{child.shown(key)}' is given twice{where}")
        found[key] = value
    return found


def parse_yaml(text):
    """YAML as far as it is JSON: no tags but the plain ones, no anchors, no key twice."""
    try:
        import yaml
    except ImportError:
        raise NoYaml("this host cannot read YAML: install Debian's package python3-yaml, "
                     "or submit config.json") from None

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent, index):
            event = self.peek_event()
            if getattr(event, "anchor", None) is not None:
                raise BadConfig(f"line {event.start_mark.line + 1}: anchors and aliases are not allowed")
            return super().compose_node(parent, index)

    def mapping(loader, node):
        where = f" in line {node.start_mark.line + 1}"
        return unique(((loader.construct_object(k, True), loader.construct_object(v, True)) for k, v in node.value), where)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise BadConfig(f"{where}{child.shown(str(getattr(e, 'problem', None) or e))}") from None


def parse(name, text):
    try:
        return json.loads(text, object_pairs_hook=unique) if name.endswith(".json") else parse_yaml(text)
    except (ValueError, RecursionError) as e:
        raise BadConfig(f"cannot be read: {child.shown(str(e))}") from None


def read_config(folder):
    """The file's name and the object in it."""
    found = [n for n in NAMES if os.path.lexists(os.path.join(folder, n))]
    if len(found) != 1:
        what = f"both {found[0]} and {found[1]}; leave one of them out" if found else f"no file {' or '.join(NAMES)}"
        raise BadConfig(f"the submission has {what}")
    raw = child.read_file(os.path.join(folder, found[0]), SIZE_MAX)
    if raw is None:
        raise BadConfig(f"{found[0]}: is not a regular file of at most {SIZE_MAX} bytes")
    try:
        return found[0], parse(found[0], raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadConfig(f"{found[0]}: is not UTF-8 text") from None
    except BadConfig as e:
        raise BadConfig(f"{found[0]}: {e}") from None


def check_keys(value, what, allowed):
    if not isinstance(value, dict):
        raise BadConfig(f"{what} must be a mapping with the keys {', '.join(allowed)}")
    for key in value:
        if key not in allowed:
            raise BadConfig(f"{what} has an unknown key '{child.shown(key)}'; there is {', '.join(allowed)}")


def check_list(value, what):
    if not isinstance(value, list):
        raise BadConfig(f"{what} must be a list")
    return value


def number(value, what, least, most, whole):
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not (
            least <= value <= most and math.isfinite(value)):
        raise BadConfig(f"{what} must be a {'whole ' if whole else ''}number from {least:g} to {most:g}, "
                        f"not {quoted(value)}")
    return value


def parameter(value, rule, what):
    """A value that the catalogue allows for a parameter."""
    if rule["type"] in ("integer", "number"):
        return number(value, what, rule["least"], rule["most"], rule["type"] == "integer")
    if not isinstance(value, str) or value not in rule["one_of"]:
        raise BadConfig(f"{what} must be one of {', '.join(rule['one_of'])}, not {quoted(value)}")
    return value


def known(name, table, what):
    if not isinstance(name, str) or name not in table:
        raise BadConfig(f"there is no {what} {quoted(name)}; there is {', '.join(table)}")
    return table[name]


def one_test(entry, catalogue, base, where):
    """A test to run: name, program, parameters, runs, timeout."""
    check_keys(entry, where, ("name", "test", "parameters", "runs", "timeout"))
    test = known(entry.get("test"), catalogue["tests"], "test")
    name = entry.get("name", entry["test"])
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise BadConfig(f"{where}: a name has 1 to 64 letters, digits, '.', '_' and '-'")
    rules, given = test["parameters"], entry.get("parameters", {})
    check_keys(given, f"'parameters' of {name}", tuple(rules))
    values = {key: parameter(given.get(key, rule["default"]), rule, f"the parameter '{key}' of {name}")
              for key, rule in rules.items()}
    runs, timeout = (number(entry.get(key, base[key]), f"'{key}' of {name}", least, catalogue[key]["most"], whole)
                     for key, least, whole in (("runs", 1, True), ("timeout", 0.1, False)))
    return {"name": name, "program": test["program"], "parameters": values, "runs": runs, "timeout": timeout}


def assemble(config, catalogue):
    """The list of tests that a configuration asks for, its suites first."""
    check_keys(config, "the configuration", ("suites", "tests", "runs", "timeout"))
    base = {key: config.get(key, catalogue[key]["default"]) for key in ("runs", "timeout")}
    entries = []
    for suite in check_list(config.get("suites", []), "'suites'"):
        for entry in known(suite, catalogue["suites"], "suite"):
            entries.append((entry, f"the suite {suite}"))
        if len(entries) > catalogue["tests_most"]:
            break
    for i, entry in enumerate(check_list(config.get("tests", []), "'tests'"), 1):
        entries.append((entry, f"test {i}"))
    if not 0 < len(entries) <= catalogue["tests_most"]:
        raise BadConfig(f"it asks for {len(entries) or 'no'} tests; 1 to {catalogue['tests_most']} are allowed")
    tests = [one_test(entry, catalogue, base, where) for entry, where in entries]
    for i, test in enumerate(tests):
        if test["name"] in (t["name"] for t in tests[:i]):
            raise BadConfig(f"two tests have the name {test['name']}; give one of them another 'name'")
    seconds = sum(t["runs"] * t["timeout"] for t in tests)
    if seconds > catalogue["seconds_most"]:
        raise BadConfig(f"the tests may take {seconds:g} s together, {catalogue['seconds_most']:g} s are allowed; "
                        "lower 'runs' or 'timeout'")
    return tests
