"""What is timed: each script measures us and a named peer in one run and ends in one JSON line."""
