"""`python -m step_audio_r1 VERB` is `step-audio-r1 VERB`."""

import sys

from step_audio_r1.cli import main

sys.exit(main())
