"""`python -m trueup`."""

from trueup.cli.app import main

if __name__ == "__main__":
    main()
