"""`python -m seg_pipeline.new_data`."""

import sys

from seg_pipeline.new_data.command import main

sys.exit(main())
