"""``python -m torchlpr``: the command line, as torchrun starts it."""

import sys

from torchlpr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
