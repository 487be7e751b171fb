"""The command `sktvae`, also `python -m sktvae`."""

import sys


def main() -> int:
    """Run the command line; return the exit code."""
    try:
        from sktvae._cli import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print(
            'The command line needs click, which is not installed: pip install "sktvae[cli]".',
            file=sys.stderr,
        )
        return 1
    return cli.main(prog_name="sktvae")


if __name__ == "__main__":
    sys.exit(main())
