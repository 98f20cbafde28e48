"""The file of ``--rules``: regions and rules as JSON, classes by name or value."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tilestream_client.errors import InvalidConfig
from tilestream_client.info import Model
from tilestream_client.outputs import Region, Rule


def read_rules(path: Path, model: Callable[[], Model]) -> tuple[tuple[Region, ...], tuple[Rule, ...]]:
    """Regions and rules of ``{"regions": {name: [[x, y], ...]}, "rules": [{"name": ..., ...}]}``.

    ``model``: asked for where classes have names. Raises InvalidConfig, OSError where it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        regions = tuple(
            Region(name, [(float(x), float(y)) for x, y in points])
            for name, points in content.pop("regions", {}).items()
        )
        rules = tuple(_rule(each, model) for each in content.pop("rules", []))
        if content:
            raise InvalidConfig(f"{path}: unknown: {', '.join(content)}; there are regions and rules")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise InvalidConfig(f"{path} is no file of rules: {reason}") from error
    return regions, rules


def _rule(content: dict[str, Any], model: Callable[[], Model]) -> Rule:
    rule = dict(content)
    values = _values(rule.pop("classes"), model)
    return Rule(rule.pop("name"), values, **rule)


def _values(classes: Sequence[int | str], model: Callable[[], Model]) -> list[int]:
    if not any(isinstance(each, str) for each in classes):
        return [int(each) for each in classes]
    known = {each.name: each.value for each in model().classes}
    unknown = [each for each in classes if isinstance(each, str) and each not in known]
    if unknown:
        raise InvalidConfig(f"the model has no class {unknown[0]!r}; it has {', '.join(known)}")
    return [known[each] if isinstance(each, str) else int(each) for each in classes]
