"""What imports what: rooms stand in an order, and the top level holds nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fathomx as fx

PACKAGE = Path(fx.__file__).parent
LEVELS = (
    ("checks",),
    ("records",),
    ("graph", "former"),
    ("layers", "data", "drawing", "metrics"),
    ("problem",),
    ("inference",),
    ("learning", "sampling"),
    ("models", "diagnostics"),
    ("theory",),
    ("training",),
    ("evaluation", "report"),
    ("comparison", "experiments"),
    ("command_line",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# Beyond the order: what inference and learning must not know although it stands below them.
FORBIDDEN = {
    "inference": {"models", "training", "report", "command_line", "data", "theory", "learning"},
    "learning": {"models", "training", "report", "command_line", "data", "theory"},
}


def modules():
    """Every source file of the package but its `__init__`, with the part it belongs to."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        if inside.name not in ("__init__.py", "__main__.py") or inside.parts[1:]:
            yield path, inside.parts[0].removesuffix(".py")


def imported_parts(path):
    """The parts of the package a file imports, `""` for the package as a whole."""
    inside = ("fathomx", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            whole = origin == "fathomx"
            names = [f"fathomx.{a.name}" for a in node.names] if whole else [origin]
        for name in names:
            first, *rest = name.split(".")
            if first == "fathomx":
                yield rest[0] if rest else ""


def test_every_module_has_a_place_in_the_order():
    assert {part for _, part in modules()} <= set(LEVEL), "place new modules in LEVELS"


@pytest.mark.parametrize("part", sorted({part for _, part in modules()}))
def test_imports_point_downwards(part):
    level = LEVEL[part]
    for path in (path for path, owner in modules() if owner == part):
        for other in imported_parts(path):
            where = path.relative_to(PACKAGE)
            if other == "":
                assert part in ("command_line",), f"{where} imports the whole package"
            elif other != part:
                assert LEVEL[other] < level, f"{where} imports {other}, which stands above it"
                assert other not in FORBIDDEN.get(part, ()), f"{where} must not import {other}"


def test_the_top_level_holds_rooms_only():
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed"}
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    rooms = {room for room in rooms if not room.startswith(".")}
    assert all((PACKAGE / room / "__init__.py").is_file() for room in rooms)


def test_importing_the_package_imports_nothing_that_only_some_need():
    heavy = ("diffrax", "scipy", "rich", "matplotlib", "sklearn", "orbax", "pooch", "pandas")
    code = f"import sys, fathomx; print(*sorted(set({heavy}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
