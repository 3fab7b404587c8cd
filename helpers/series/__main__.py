"""`python -m helpers.series`: see `helpers.series.runner`."""

import sys

from helpers.series.runner import main

if __name__ == "__main__":
    sys.exit(main())
