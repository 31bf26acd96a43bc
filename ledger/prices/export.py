"""Writes the data of the installed PyPI package `genai-prices` in its v2 JSON form, without prose.

    python3 -m venv v && v/bin/pip install genai-prices==0.2.3
    v/bin/python export.py > genai-prices.json

The package carries its data as Python objects with exact decimals; this writes the decimals as they are,
one model a line, reads the result back with the package's own decoder and compares it with what it began with.
Dropped: descriptions, comments, pricing URLs and the response extractors, none of which a price book needs.
"""

import dataclasses
import datetime
import json
import sys
from decimal import Decimal

from genai_prices import types
from genai_prices.data import providers

PROSE = {"description", "price_comments", "pricing_urls", "extractors"}


class Number(float):
    """A decimal that `json` writes digit by digit."""

    def __new__(cls, value):
        number = super().__new__(cls, value)
        number.text = format(value, "f")
        return number

    def __repr__(self):
        return self.text


def plain(value):
    if isinstance(value, Decimal):
        return Number(value)
    if isinstance(value, types.ModelPrice):
        return {key: plain(price) for key, price in vars(value).items() if price is not None}
    if isinstance(value, datetime.time):
        offset = "Z" if value.utcoffset() == datetime.timedelta(0) else value.strftime("%z")
        return value.strftime("%H:%M:%S") + offset
    if isinstance(value, datetime.date):
        return value.isoformat()
    if dataclasses.is_dataclass(value):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init)
        return {name.rstrip("_"): plain(field) for name, field in fields if field is not None and name not in PROSE}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def dump(value):
    # `json` takes float.__repr__ for a subclass too, unless its C encoder is bypassed.
    encoder = json.encoder._make_iterencode(
        None, lambda o: o, json.encoder.encode_basestring_ascii, None, repr, ":", ",", False, False, True
    )
    return "".join(encoder(value, 0))


def main():
    lines = []
    for provider in map(plain, providers):
        models = provider.pop("models")
        head = dump(provider)[:-1]
        lines.append(head + ',"models":[\n' + ",\n".join(map(dump, models)) + "\n]}")
    text = "[\n" + ",\n".join(lines) + "\n]\n"

    back = types._providers_from_raw(json.loads(text, parse_float=Decimal))
    without_prose = [
        dataclasses.replace(
            provider,
            description=None,
            price_comments=None,
            pricing_urls=None,
            extractors=None,
            models=[dataclasses.replace(model, description=None, price_comments=None) for model in provider.models],
        )
        for provider in providers
    ]
    assert back == without_prose, "the file does not read back as the package's data"
    sys.stdout.write(text)


main()
