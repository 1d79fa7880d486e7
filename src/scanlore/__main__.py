"""`python -m scanlore`."""

from scanlore.cli import main

if __name__ == "__main__":
    main()
