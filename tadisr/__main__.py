"""`python -m tadisr` is the `tadisr` command."""

import sys

from tadisr.cli import main

sys.exit(main())
