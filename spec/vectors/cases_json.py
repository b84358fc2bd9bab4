"""JSON texts and their canonical form, or the reason why they have none."""

from __future__ import annotations

from collections.abc import Iterator

from spec.vectors.craft import Case

__all__ = ["json_cases"]


def json_cases() -> Iterator[Case]:
    """Yield every case of the operation ``canonicalize``."""
    for name, description, text, expected in [*_numbers(), *_strings(), *_structure()]:
        yield _case(name, description, text.encode(), {"canonical": expected})
    for name, description, data, code in [*_no_json(), *_no_text(), *_repeated(), *_deep()]:
        yield _case(name, description, data, {"code": code})


def _case(name: str, description: str, data: bytes, expected: dict[str, str]) -> Case:
    return Case(
        name=f"json-{name}",
        description=description,
        operation="canonicalize",
        input={"path": "input.json"},
        expected=expected,
        files={"input.json": data},
    )


Good = tuple[str, str, str, str]
Bad = tuple[str, str, bytes, str]


def _numbers() -> Iterator[Good]:
    rows = (
        ("whole", "2.0", "2"),
        ("exponent", "2e0", "2"),
        ("tens", "20e-1", "2"),
        ("capital-exponent", "1E30", "1e+30"),
        ("plus-exponent", "1e+2", "100"),
        ("minus-zero", "-0", "0"),
        ("minus-zero-point", "-0.0", "0"),
        ("trailing-zero", "4.50", "4.5"),
        ("small", "0.000001", "0.000001"),
        ("smaller", "0.0000001", "1e-7"),
        ("small-fraction", "0.00000123", "0.00000123"),
        ("large", "100000000000000000000", "100000000000000000000"),
        ("larger", "1000000000000000000000", "1e+21"),
        ("seventeen-digits", "333333333.33333329", "333333333.3333333"),
        ("safe-integer", "9007199254740991", "9007199254740991"),
        ("beyond-safe-integer", "9007199254740993", "9007199254740992"),
        ("beyond-long", "18446744073709551616", "18446744073709552000"),
        ("negative-beyond", "-9007199254740993", "-9007199254740992"),
        ("smallest", "4.9e-324", "5e-324"),
        ("underflow", "1e-400", "0"),
        ("largest", "1.7976931348623157e308", "1.7976931348623157e+308"),
        ("many-digits", "0.1000000000000000055511151231257827", "0.1"),
        ("ties", "1424953923781206.25", "1424953923781206.2"),
        ("twenty-seven-places", "0.000000000000000000000000001", "1e-27"),
    )
    for name, text, expected in rows:
        yield f"number-{name}", f"The number {text}.", f"[{text}]", f"[{expected}]"


def _strings() -> Iterator[Good]:
    rows = (
        ("short-escapes", r'"\b\t\n\f\r\"\\"', r'"\b\t\n\f\r\"\\"'),
        ("long-escapes", r'"\u0008\u0009\u000a\u000c\u000d\u0022\u005c"', r'"\b\t\n\f\r\"\\"'),
        ("control-characters", r'"\u0000\u001F\u000B"', '"\\u0000\\u001f\\u000b"'),
        ("slash", r'"\/"', '"/"'),
        ("delete", r'"\u007f\u0080"', '"\u007f\u0080"'),
        ("line-separators", r'"\u2028\u2029"', '"\u2028\u2029"'),
        ("letters", r'"\u20ac\u00E9\u0041"', '"€éA"'),
        ("surrogate-pair", r'"\ud83d\ude00"', '"😀"'),
        ("no-normalisation", '"e\u0301 \u00e9"', '"e\u0301 \u00e9"'),
        ("private-use", '"\ue000\ufeff"', '"\ue000\ufeff"'),
    )
    for name, text, expected in rows:
        yield f"string-{name}", "How text is escaped.", text, expected


def _structure() -> Iterator[Good]:
    yield "white-space", "White space between tokens goes.", ' \t\r\n{ "a" : [ 1 , 2 ] }\n', '{"a":[1,2]}'
    yield "literals", "The three literals.", "[true, false, null]", "[true,false,null]"
    yield "scalar", "A text that is one number.", " 1.0 ", "1"
    yield "empty-objects", "Empty objects and arrays.", '{"b": {}, "a": []}', '{"a":[],"b":{}}'
    yield "empty-name", "An empty name stands first.", '{"a":1,"":2}', '{"":2,"a":1}'
    yield "keys-by-case", "Capitals stand before small letters.", '{"b":1,"a":2,"B":3}', '{"B":3,"a":2,"b":1}'
    yield "keys-by-prefix", "A prefix stands before what it begins.", '{"aa":1,"a":2,"a.b":3}', '{"a":2,"a.b":3,"aa":1}'
    yield "keys-as-text", "Keys that look like numbers are text.", '{"10":1,"9":2}', '{"10":1,"9":2}'
    yield "keys-nested", "Keys are sorted at every level.", '[{"b":{"d":1,"c":2},"a":3}]', '[{"a":3,"b":{"c":2,"d":1}}]'
    yield (
        "keys-of-rfc-8785",
        "The keys of RFC 8785, section 3.2.3.",
        r'{"\u20ac":"Euro","\r":"CR","\ufb33":"Dalet","1":"One","\ud83d\ude00":"Emoji","\u0080":"Control","\u00f6":"O"}',
        '{"\\r":"CR","1":"One","\u0080":"Control","ö":"O","€":"Euro","😀":"Emoji","\ufb33":"Dalet"}',
    )
    yield "keys-by-utf-16", "A pair of surrogates stands before U+E000.", '{"\ue000":1,"😀":2}', '{"😀":2,"\ue000":1}'
    yield "array-order", "Arrays keep their order.", "[3, 1, 2]", "[3,1,2]"
    yield "deepest", "Sixty-four levels.", "[" * 64 + "]" * 64, "[" * 64 + "]" * 64
    yield (
        "deepest-mixed",
        "Sixty-four levels of objects and arrays.",
        '[{"a":' * 32 + "1" + "}]" * 32,
        '[{"a":' * 32 + "1" + "}]" * 32,
    )


def _no_json() -> Iterator[Bad]:
    rows = (
        ("nothing", b""),
        ("only-space", b" \n"),
        ("two-values", b"1 2"),
        ("trailing-comma", b"[1,]"),
        ("missing-comma", b"[1 2]"),
        ("missing-value", b'{"a":}'),
        ("unclosed-array", b"[1"),
        ("unclosed-string", b'"a'),
        ("single-quotes", b"'a'"),
        ("bare-name", b"{a:1}"),
        ("comment", b"[1] // one"),
        ("leading-zero", b"[01]"),
        ("plus", b"[+1]"),
        ("no-digit-before-point", b"[.5]"),
        ("no-digit-after-point", b"[1.]"),
        ("hexadecimal", b"[0x1]"),
        ("underscore", b"[1_000]"),
        ("other-digits", "[\u0661]".encode()),
        ("nan", b"[NaN]"),
        ("infinity", b"[Infinity]"),
        ("minus-infinity", b"[-Infinity]"),
        ("too-large", b"[1e309]"),
        ("too-large-whole", b"[" + b"9" * 400 + b"]"),
        ("capital-literal", b"[True]"),
        ("form-feed", b"[1,\x0c2]"),
        ("no-break-space", "[1,\u00a02]".encode()),
    )
    for name, data in rows:
        yield f"refused-{name}", "No JSON.", data, "not-json"


def _no_text() -> Iterator[Bad]:
    rows = (
        ("control-character", b'"\x01"'),
        ("raw-line-feed", b'"a\nb"'),
        ("raw-tab", b'"a\tb"'),
        ("unknown-escape", rb'"\x41"'),
        ("short-unicode-escape", rb'"\u41"'),
        ("invalid-utf-8", b'"\xff"'),
        ("cut-utf-8", b'"\xe2\x82"'),
        ("overlong", b'"\xc0\x80"'),
        ("surrogate-bytes", b'"\xed\xa0\xbd\xed\xb8\x80"'),
        ("utf-16", "[1]".encode("utf-16")),
        ("byte-order-mark", b"\xef\xbb\xbf[1]"),
        ("high-surrogate", rb'"\ud83d"'),
        ("low-surrogate", rb'"\ude00"'),
        ("surrogates-reversed", rb'"\ude00\ud83d"'),
        ("surrogate-in-key", rb'{"\ud800":1}'),
    )
    for name, data in rows:
        yield f"refused-{name}", "No text in UTF-8.", data, "not-json"


def _repeated() -> Iterator[Bad]:
    yield "repeated-name", "A name that stands twice.", b'{"a":1,"a":1}', "repeated-key"
    yield "repeated-apart", "A name that stands twice with another between.", b'{"a":1,"b":2,"a":3}', "repeated-key"
    yield "repeated-by-escape", "A name and its escaped form.", rb'{"a":1,"\u0061":2}', "repeated-key"
    yield "repeated-inside", "A name that stands twice in an inner object.", b'[{"b":{"a":1,"a":2}}]', "repeated-key"
    yield "repeated-empty-name", "An empty name that stands twice.", b'{"":1,"":2}', "repeated-key"


def _deep() -> Iterator[Bad]:
    yield "too-deep", "Sixty-five levels.", b"[" * 65 + b"]" * 65, "too-deep"
    yield "too-deep-mixed", "Sixty-six levels of objects and arrays.", b'[{"a":' * 33 + b"1" + b"}]" * 33, "too-deep"
    yield "hostile-depth", "Five thousand levels.", b"[" * 5000 + b"]" * 5000, "too-deep"
