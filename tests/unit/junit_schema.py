"""A structural check of JUnit XML: which elements may hold which, and which attributes they must and may have.

Source: junit-10.xsd of Jenkins' xUnit plugin, the part of it without reruns.
"""

import re
from xml.etree import ElementTree as ET

MESSAGE = ({"message", "type"}, set[str](), set[str]())
ELEMENTS: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package", "file"},
        {"name", "tests", "failures", "errors"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "testcase": (
        {"name", "classname", "time", "group"},
        {"name"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "failure": MESSAGE,
    "error": MESSAGE,
    "skipped": MESSAGE,
    "system-out": (set(), set(), set()),
    "system-err": (set(), set(), set()),
}
"""Of each element: attributes that it may have, those it must have, and the elements that it may hold."""
WITH_TEXT = {"failure", "error", "skipped", "system-out", "system-err"}
TIME = re.compile(r"\d+\.\d{3}")


def problems(xml: str) -> list[str]:
    """List what is not as the schema wants it, or what the counts of a suite do not say."""
    root = ET.fromstring(xml)
    if root.tag != "testsuite":
        return [f"the root is {root.tag}"]
    found = [problem for element in root.iter() for problem in _of_element(element)]
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        if int(root.get(attribute, "0")) != sum(1 for _ in root.iter(tag)):
            found.append(f"{attribute} = {root.get(attribute)} is not the number of {tag}")
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    found += [f"test case {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    return found


def _of_element(element: ET.Element) -> list[str]:
    if element.tag not in ELEMENTS:
        return [f"unknown element {element.tag}"]
    may, must, holds = ELEMENTS[element.tag]
    found = [f"{element.tag} has {name}" for name in sorted(set(element.keys()) - may)]
    found += [f"{element.tag} lacks {name}" for name in sorted(must - set(element.keys()))]
    found += [f"{element.tag} holds {child.tag}" for child in element if child.tag not in holds]
    if element.tag not in WITH_TEXT and (element.text or "").strip():
        found.append(f"{element.tag} holds text")
    if (time := element.get("time")) is not None and not TIME.fullmatch(time):
        found.append(f"time = {time}")
    return found
