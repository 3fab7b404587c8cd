"""`python -m helpers.own_images`: see `helpers.own_images.command`."""

import sys

from helpers.own_images.command import main

if __name__ == "__main__":
    sys.exit(main())
