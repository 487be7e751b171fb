"""What is imported with the estimator: the least memory of every process that uses it."""

import subprocess
import sys

CODE = """
import sys
import sktvae
sktvae.TVAESynthesizer, sktvae.TableEncoder, sktvae.ModeCodec
unneeded = {"jinja2", "matplotlib", "opendp", "pyarrow.parquet", "sklearn.ensemble",
            "sklearn.mixture", "sklearn.neighbors", "sympy", "torch._dynamo", "torch._inductor"}
print(sorted(unneeded & set(sys.modules)))
"""


def test_the_estimator_imports_nothing_large_that_a_default_fit_does_not_need():
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
