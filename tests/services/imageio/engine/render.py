"""The engine's two representations. In its JSON every scalar is a string."""

import json
import xml.etree.ElementTree as ET


def to_json(model):
    return json.dumps(_strings(model), indent=2).encode()


def to_xml(name, model):
    return ET.tostring(_element(name, model), encoding="UTF-8", xml_declaration=True)


def parse(content_type, data):
    """A request's body as a dictionary; ValueError when it is malformed."""
    if "json" in content_type:
        return _strings(json.loads(data))
    try:
        return _dictionary(ET.fromstring(data))
    except ET.ParseError as error:
        raise ValueError(error) from error


def _scalar(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def _strings(model):
    if isinstance(model, dict):
        return {key: _strings(value) for key, value in model.items()}
    return [_strings(item) for item in model] if isinstance(model, list) else _scalar(model)


def _element(name, model):
    element = ET.Element(name)
    for key, value in model.items():
        if key in ("id", "href", "rel"):
            element.set(key, value)
        elif isinstance(value, dict):
            element.append(_element(key, value))
        elif isinstance(value, list):
            element.extend(_element(key, item) for item in value)
        else:
            ET.SubElement(element, key).text = _scalar(value)
    return element


def _dictionary(element):
    result = dict(element.attrib) | {child.tag: _dictionary(child) for child in element}
    return result or (element.text or "")
