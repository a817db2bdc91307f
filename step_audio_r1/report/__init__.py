"""The report of a run: one HTML page made from what its workdir holds, finished or not."""

from step_audio_r1.report.page import write_report

__all__ = ["write_report"]
