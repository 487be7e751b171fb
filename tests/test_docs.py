"""The python blocks of the README and the docs run as they stand."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


USES = ["conditions", "imputation", "oversampling", "anomalies"]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p}.md" for p in ["guide", *USES])])
def test_python_blocks_run(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)
    assert blocks
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], check=True, cwd=tmp_path)
