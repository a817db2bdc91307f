"""Types of config fields that say which numbers make sense; `pipeline.config` checks them and names the field."""

from typing import Annotated

# Annotated[int, n]: at least n.
Positive = Annotated[int, 1]
NotNegative = Annotated[int, 0]
