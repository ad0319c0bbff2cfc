"""YAML that people write: manifests, recipes, values of options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.terminal.errors import ReidpipeError

# libyaml reads ten times faster; some builds of PyYAML lack it.
_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _SafeLoader(_FASTEST):
    """Numbers such as 1e-3 and 5E4 are numbers, as in YAML 1.2; PyYAML's, of 1.1, ask for a point
    and a sign, and give the text.
    """


_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)

# Far more than a person writes; a few lines of aliases of aliases would fill the memory.
LONGEST, DEEPEST, MOST_NODES = 1_000_000, 50, 100_000
# Of a number: of one with 4,300 decimal digits, whatever it was written in, Python makes no text.
LONGEST_NUMBER = 1_000


def read_yaml(text: str) -> Any:
    """The plain value of a YAML document, as ``yaml.safe_load`` has it, but that 1e-3 is a number.
    Raises yaml.YAMLError, also for a key that a mapping has twice, and for a document that nobody
    writes: too long, nested or unfolding without bound, or with a date or a number that Python has
    not.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"{len(text)} characters; at most {LONGEST}")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # bytes of a command line that are no UTF-8
        raise yaml.YAMLError(f"text that is no UTF-8, at character {error.start}") from error
    _measure(text)
    loader = _SafeLoader(text)
    try:
        document = loader.get_single_node()
        _check_keys(document)
        return None if document is None else loader.construct_document(document)
    except (ValueError, OverflowError, RecursionError, AttributeError, TypeError) as error:
        raise yaml.YAMLError(_first_line(error)) from error
    finally:
        loader.dispose()


def read_yaml_file(path: Any) -> Any:
    """The plain value of a YAML file. path: a Path, or a packaged file. Raises ReidpipeError, in
    one line, for a file that cannot be read.
    """
    try:
        size = path.stat().st_size if isinstance(path, Path) else 0
        if size > 4 * LONGEST:
            raise yaml.YAMLError(f"{size} bytes; at most {LONGEST} characters")
        return read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ReidpipeError(
            f"found {path} in another encoding than UTF-8; expected YAML in UTF-8; save it so"
        ) from error
    except OSError as error:
        raise ReidpipeError(
            f"found no way to read {path} ({error.strerror}); expected a YAML file; type its path"
        ) from error
    except yaml.YAMLError as error:
        raise ReidpipeError(
            f"found YAML that cannot be read in {path}: {_first_line(error)}; expected the keys "
            "and values of a file like those of the package; mend that place"
        ) from error


def _measure(text: str) -> None:
    """Raise YAMLError where a document is nested or would unfold too far, before it is built."""
    depth, count = 0, 0
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []  # of each open collection its anchor, nodes before
    for event in yaml.parse(text, Loader=_SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"alias *{event.anchor} of nothing, or of what it stands in")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if len(event.value) > LONGEST_NUMBER and _is_number(event):
                raise yaml.YAMLError(f"a number of {len(event.value)} characters")
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count))
            # A name given twice means the later one, and not yet.
            sizes.pop(event.anchor or "", None)
            count, depth = count + 1, depth + 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            depth -= 1
            if anchor:
                sizes[anchor] = count - before
        if depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels")
        if count > MOST_NODES:
            raise yaml.YAMLError(f"more than {MOST_NODES} values")


def _check_keys(document: yaml.Node | None) -> None:
    """Raise YAMLError for a key twice in one mapping, where the later value would hide the other;
    what ``<<`` brings in may be said again.
    """
    waiting, seen = [document], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                waiting.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if (key.tag, key.value) in keys:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"key '{key.value}' twice, again in line {line}")
                keys.add((key.tag, key.value))


def _is_number(event: yaml.ScalarEvent) -> bool:
    """Whether a long text may stand for one: plain or called one, and in one piece."""
    called = event.tag is not None and event.tag.endswith((":int", ":float"))
    plain = event.tag is None and not event.style
    text = event.value.strip()
    return (called or plain) and text[:1] in set("+-.0123456789") and len(text.split()) == 1


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
