"""`python -m dvid_es` is the command `dvid-es`."""

from dvid_es.cli import main

if __name__ == "__main__":
    main()
