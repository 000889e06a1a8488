"""What every run carries besides its task: repeatable randomness, checkpoints that survive, and what they say."""

from dbp.callbacks.finite import Finite
from dbp.callbacks.randomness import KeyedRandomness, seed_all
from dbp.callbacks.resuming import ChangedOptimizer, SameBatches
from dbp.callbacks.saving import AtomicCheckpointIO, Best, Header, Last, complete_line, resumes_exactly
from dbp.callbacks.showing import Pictures, ProgressBar, SavedPictures

__all__ = [
    "AtomicCheckpointIO",
    "Best",
    "ChangedOptimizer",
    "Finite",
    "Header",
    "KeyedRandomness",
    "Last",
    "Pictures",
    "ProgressBar",
    "SameBatches",
    "SavedPictures",
    "complete_line",
    "resumes_exactly",
    "seed_all",
]
