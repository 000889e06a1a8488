"""What every run carries besides its task: repeatable randomness, checkpoints that survive, and what they say."""

from dbp.callbacks.randomness import KeyedRandomness, seed_all
from dbp.callbacks.resuming import ChangedOptimizer
from dbp.callbacks.saving import AtomicCheckpointIO, Best, Header, Last, complete_line, resumes_exactly
from dbp.callbacks.showing import Pictures, ProgressBar, SavedPictures

__all__ = [
    "AtomicCheckpointIO",
    "Best",
    "ChangedOptimizer",
    "Header",
    "KeyedRandomness",
    "Last",
    "Pictures",
    "ProgressBar",
    "SavedPictures",
    "complete_line",
    "resumes_exactly",
    "seed_all",
]
