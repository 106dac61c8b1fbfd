"""What a cell binds, reads and imports, found without running it."""

import ast


def bound_names(source: str) -> set[str]:
    """The names that a cell binds in its own namespace: not those inside its functions and classes."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting += ast.iter_child_nodes(node)
    return found


def names_bound(source: str) -> set[str] | None:
    """`bound_names` of a text that may be anything; None for one that is not Python."""
    try:
        return bound_names(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def imports_of(source: str) -> str:
    """The import statements at the top of a text that may be anything."""
    if names_bound(source) is None:
        return ""
    found = (node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom))
    return "\n".join(map(ast.unparse, found))


def loaded_names(source: str) -> set[str]:
    """The names that a cell reads."""
    return {
        node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def imported_modules(source: str) -> set[str]:
    """The modules that a cell imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
