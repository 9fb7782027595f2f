"""`python -m jointformer`."""

import sys

from .cli.main import main

sys.exit(main())
