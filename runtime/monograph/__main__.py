"""`python -m monograph`."""

import sys

from monograph.commands import main

sys.exit(main())
