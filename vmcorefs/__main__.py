"""python -m vmcorefs."""

import sys

from vmcorefs.cli.main import main

sys.exit(main())
