"""axe-core looks at a page: the rules of WCAG 2.1, levels A and AA."""

import pytest

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


def violations(page, *, include=(), exclude=(), ignore=()):
    """What is against a rule, a line for each element.

    Args:
        include: CSS selectors; without any it is the whole page.
        exclude: CSS selectors of what is not ours to mend.
        ignore: rules that are left out, for the same reason.
    """
    base = pytest.importorskip(
        "axe_playwright_python.base", reason="no axe-playwright-python: make setup"
    )
    page.evaluate(base.AXE_SCRIPT)
    context = {"exclude": list(exclude)} | ({"include": list(include)} if include else {})
    rules = {name: {"enabled": False} for name in ignore}
    options = {"runOnly": RULES, "resultTypes": ["violations"], "rules": rules}
    found = page.evaluate("both => axe.run(...both)", [context, options])
    return [
        f"{rule['id']}: {element['html'][:200]}"
        for rule in found["violations"]
        for element in rule["nodes"]
    ]
