"""`python -m jointformer`."""

import sys

from jointformer.cli.main import main

sys.exit(main())
