"""The direction of imports, and the length of functions."""

import ast
import pathlib

import pytest

import sktvae

PACKAGE = pathlib.Path(sktvae.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
# From the top: a file may import from its own part, and from the parts that are listed for it.
LEAVES = {
    *("_version", "_heads", "_random", "_device", "_presets", "_warnings", "_persistence"),
    *("_collective", "_threads"),
}
MAY_IMPORT = {
    "_persistence": {"_version", "_warnings"},
    "_table": set(),
    "_encoding": {"_table", "_heads", "_random", "_warnings", "_persistence"},
    "_privacy": {
        *("_encoding", "_model", "_table", "_training"),
        *("_heads", "_random", "_warnings"),
    },
    "_model": {"_heads"},
    "_training": {"_collective", "_model", "_warnings"},
    "_generation": {"_encoding", "_model", "_threads"},
    "_warm_start": set(),
    "_any_order": {"_encoding", "_model", "_table", "_warnings"},
    "_conditional": {"_any_order", "_encoding", "_device", "_random"},
    "_fitting": {
        *("_any_order", "_encoding", "_model", "_privacy", "_table", "_training", "_warm_start"),
        *LEAVES,
    },
    "_streaming": {
        *("_any_order", "_encoding", "_fitting", "_model", "_table", "_training", "_warm_start"),
        *LEAVES,
    },
    "_synthesizer": {
        *("_encoding", "_model", "_training", "_generation"),
        *("_conditional", "_privacy", "_streaming"),
        *LEAVES,
    },
    "_imputer": {
        *("_any_order", "_conditional", "_encoding", "_model", "_synthesizer", "_table"),
        *("_training", *LEAVES),
    },
    "_oversampler": {"_collective", "_synthesizer", "_table", "_random"},
    "_rejection": {"_encoding", "_generation", "_synthesizer", "_table", *LEAVES},
    "imbalanced": {"_oversampler"},
    "metrics": {"_table", "_warnings"},
    "inspection": {"metrics", "_table", "_warnings"},
    "_files": {"_warnings"},
    "_where": {"_files"},
    "_cli": {"__init__", "_files", "_where", "_version", "inspection", "metrics"},
    "__main__": {"_cli"},
    "__init__": {"_encoding", "_imputer", "_privacy", "_rejection", "_synthesizer", *LEAVES},
}
MUST_NOT_IMPORT = {
    "_table": {"torch", "joblib"},
    "_encoding": {"torch", "pyarrow", "narwhals", "polars"},
    "_model": {"pandas", "sklearn", "joblib", "tqdm", "scipy"},
    "_training": {"pandas", "sklearn", "joblib"},
    "_heads": {"numpy", "pandas", "sklearn", "torch"},
}
ONLY_IN = {
    "pyarrow": ("_table/arrow.py", "_files.py"),
    "narwhals": "_table/narwhals.py",
    "imblearn": "_oversampler.py",
    "click": "_cli.py",
    "opendp": "_privacy/mechanisms.py",
    "dp_accounting": "_privacy/accounting.py",
}


def part(path):
    """The first part of a file's path in the package, without its ending."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            if node.module == "sktvae":  # from sktvae import _generation
                yield from (f"sktvae.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = part(path)
    for name in imported(path):
        package, *rest = name.split(".")
        if package != "sktvae":
            assert package not in MUST_NOT_IMPORT.get(own, set()), f"{own} must not know {package}"
            where = ONLY_IN.get(package)
            own_path = str(path.relative_to(PACKAGE))
            assert where is None or own_path in where, f"{package} belongs in {where}"
            continue
        other = "__init__" if rest[0] in sktvae.__all__ else rest[0]  # a public name
        allowed = MAY_IMPORT.get(own, set()) | {own}
        assert other in allowed, f"{path.relative_to(PACKAGE)} must not import from sktvae.{other}"


def test_files_of_a_part_do_not_import_each_other_in_a_circle():
    graph = {}
    for path in FILES:
        name = ".".join(("sktvae", *path.relative_to(PACKAGE).with_suffix("").parts))
        graph[name.removesuffix(".__init__")] = set(imported(path))
    left = dict(graph)
    while left:
        ready = [name for name, needs in left.items() if not needs & (left.keys() - {name})]
        assert ready, f"imports in a circle among {sorted(left)}"
        for name in ready:
            del left[name]


def test_private_sub_packages_hold_a_docstring_and_nothing_else():
    for path in PACKAGE.rglob("_*/__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1 and isinstance(body[0], ast.Expr), path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_functions_are_short_and_take_few_arguments(path):
    """At most 60 lines without the docstring, and 8 parameters; constructors aside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef) or node.name == "__init__":
            continue
        docstring = ast.get_docstring(node, clean=False) or ""
        n_lines = node.end_lineno - node.lineno + 1 - docstring.count("\n")
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = [p.arg for p in parameters if p.arg not in ("self", "cls")]
        assert n_lines <= 60, f"{node.name}: {n_lines} lines"
        assert len(parameters) <= 8, f"{node.name}: {parameters}"
