"""`python -m seg_pipeline.new_data`."""

from __future__ import annotations

import sys

from seg_pipeline.new_data.command import main

sys.exit(main())
