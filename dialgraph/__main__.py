"""The command `dialgraph`, also as `python -m dialgraph`."""

import sys
from importlib import import_module

from dialgraph.shadowing import ShadowedPackageError, refuse_shadowed_packages


def main() -> None:
    """Run the command line. Exit with an error if another file hides one of our packages."""
    try:
        refuse_shadowed_packages()
    except ShadowedPackageError as error:
        sys.exit(f"dialgraph: {error}")
    import_module("server.cli").main()


if __name__ == "__main__":
    main()
