"""A short training run without files or output, for tests of tasks."""

from pytorch_lightning import Trainer


def train(task, data, epochs=1, **options):
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **{"logger": False, **options},
    )
    trainer.fit(task, data)
    return trainer
