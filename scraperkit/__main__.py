"""``python -m scraperkit``: the command line."""

from scraperkit.cli import main

if __name__ == "__main__":
    main()
