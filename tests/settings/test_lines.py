"""Lines of keys in TOML texts, checked against texts whose lines are known."""

from __future__ import annotations

import json
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.settings.lines import key_lines

TEXT = '''\
# [not.a.table]
top = 1
[a]
plain = "x" # = y
"quoted.key" = 2
long = """
not = "a key"
[nor.a.table]
""" # done
list = [
  "x = 1", # ] no end
  [1, 2],
]
inline = { x = 1, y = [ 2 ] }
lit = \'\'\'
k = 1\'\'\'
[a . b]
c.d = 1
[[many]]
x = 1
'''


def test_every_key_is_found_in_its_line() -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == {
        ("top",): 2,
        ("a",): 3,
        ("a", "plain"): 4,
        ("a", "quoted.key"): 5,
        ("a", "long"): 6,
        ("a", "list"): 10,
        ("a", "inline"): 14,
        ("a", "lit"): 15,
        ("a", "b"): 17,
        ("a", "b", "c", "d"): 18,
        ("many",): 19,
        ("many", "x"): 20,
    }


keys = st.text("abz_-09", min_size=1, max_size=5)
values = st.recursive(
    st.integers() | st.booleans() | st.text(st.characters(codec="ascii"), max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def written(value: object) -> str:
    """A value as TOML, lists over several lines."""
    if isinstance(value, list):
        return "[\n" + "".join(f"  {written(item)}, # ]\n" for item in value) + "]"
    return json.dumps(value).replace("\x7f", "\\u007f")


@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4))
def test_lines_agree_with_how_the_text_was_written(
    tables: dict[str, dict[str, object]],
) -> None:
    lines: list[str] = []
    expected = {}
    for table, content in tables.items():
        lines.append(f"[{table}] # {{ [")
        expected[table,] = len(lines)
        for key, value in content.items():
            start = len(lines) + 1
            lines += f"{key} = {written(value)}".split("\n")
            expected[table, key] = start
    text = "\n".join(lines)
    assert tomllib.loads(text) == tables
    assert key_lines(text) == expected


@given(st.text())
def test_any_text_is_read_to_its_end(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in key_lines(text).values())
