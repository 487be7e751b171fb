"""What the README and the docs show runs as it stands, and their links lead somewhere."""

import pathlib
import re
import subprocess
import sys

import matplotlib
import pytest

matplotlib.use("Agg")

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
# In CONTRIBUTING.md the blocks are parts of an answer; the other two have tests of their own.
ELSEWHERE = {"CONTRIBUTING.md", "README.md", "command_line.md"}
WITH_PYTHON = [p for p in PAGES if p.name not in ELSEWHERE and "```python" in p.read_text()]
SLOW = {
    "conditions.md",
    "imputation.md",
    "oversampling.md",
    "anomalies.md",
    "quality.md",
    "rejection.md",
}


def name(page):
    return str(page.relative_to(ROOT))


def as_parameter(page):
    marks = [pytest.mark.slow] if page.name in SLOW else []
    return pytest.param(page, id=name(page), marks=marks)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.S | re.M)


def test_the_readme_runs_in_a_fresh_interpreter(tmp_path):
    code = "\n".join(blocks(ROOT / "README.md", "python"))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("page", [as_parameter(page) for page in WITH_PYTHON])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(page, "python"))
    exec(compile(code, name(page), "exec"), {"__name__": "__main__"})


@pytest.mark.slow
def test_the_commands_run(tmp_path):
    page = ROOT / "docs" / "command_line.md"
    subprocess.run(
        [sys.executable, "-c", "\n".join(blocks(page, "python"))], check=True, cwd=tmp_path
    )
    sktvae = f'sktvae() {{ "{sys.executable}" -m sktvae "$@"; }}'
    script = "\n".join(["set -eu", sktvae, *blocks(page, "bash")])
    subprocess.run(["bash", "-c", script], check=True, cwd=tmp_path)
    written = {"model.skops", "rows.csv", "report.html", "five.csv", "filled.csv"}
    assert written <= {path.name for path in tmp_path.iterdir()}


def anchors(page):
    """The anchors of the headings of a page, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    found = []
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.M):
        words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower())
        anchor = words.replace(" ", "-")
        again = sum(
            re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found
        )
        found.append(f"{anchor}-{again}" if again else anchor)
    return found


def links(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    text = re.sub(r"`[^`\n]*`", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_anchors_lead_somewhere(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link} has no such heading"


def test_every_page_is_in_the_contents_of_the_site():
    conf = (ROOT / "docs" / "conf.py").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f'"{page.stem}"' in conf, f"docs/{page.name} is in no table of contents"


def test_the_api_reference_lists_every_public_name():
    import sktvae
    from sktvae import imbalanced, inspection, metrics

    listed = (ROOT / "docs" / "api.rst").read_text().split()
    for module in (sktvae, imbalanced, metrics, inspection):
        for public in set(module.__all__) - {"__version__"}:
            assert public in listed, f"docs/api.rst does not list {module.__name__}.{public}"
