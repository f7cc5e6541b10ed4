"""`python -m kerazoo` is the command line."""

from kerazoo.cli import main

if __name__ == "__main__":
    main()
