"""`python -m slicemill VERB`: the same as the command `slicemill`."""

from slicemill.cli import main

if __name__ == "__main__":
    main()
