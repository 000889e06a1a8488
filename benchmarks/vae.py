"""Estimators side by side: the same variational autoencoder, twenty epochs each, into a table.

    python -m benchmarks.vae data.root=FOLDER [NAME=VALUE ...]

Every estimator has the same network, data, optimizer and seed, and its own defaults unless the table says otherwise.
What is done is not done again: stopped, it goes on where it was.
"""

import csv
import os
import resource
import subprocess
import sys
from pathlib import Path

CONFIG = "configs/vae/linear.yaml"
ESTIMATORS = {
    "REINFORCE, no baseline": "{name: score, samples: 1, baseline: none}",
    "REINFORCE, moving average": "{name: score, samples: 1, baseline: average}",
    "RLOO, 2 samples": "{name: score, samples: 2}",
    "RLOO, 4 samples": "{name: score, samples: 4}",
    "DisARM, 2 samples": "{name: disarm, samples: 2}",
    "ARMS, 4 samples": "{name: arms, samples: 4}",
    "REBAR": "rebar",
    "RELAX": "{name: relax, network: {name: mlp, sizes: [200, 137, 1], activation: leaky_relu}}",
    "straight-through, no noise": "straight_through",
    "straight-through": "{name: straight_through, noise: logistic}",
    "identity": "{name: identity, noise: logistic}",
    "Gumbel-softmax, temperature 0.5": "{name: gumbel_softmax, temperature: 0.5}",
    "Gumbel-Rao, temperature 0.5": "{name: gumbel_rao, temperature: 0.5}",
    "gapped straight-through": "gapped",
    "ZGR": "zgr",
    "I-MLE, logistic noise": "{name: imle, noise: logistic}",
    "DAB": "{name: dab, noise: logistic, bridge: {name: mlp, sizes: [200, 200]}}",
}


def main(overrides: list[str]) -> None:
    """Trains and tests what is not done yet, and prints the table of what is."""
    print("| estimator | train/elbo | test/elbo | test/iwae, 100 samples | CPU seconds an epoch |")
    print("| --- | --- | --- | --- | --- |")
    for title, estimator in ESTIMATORS.items():
        run = Path("lightning_logs") / ("vae-" + "".join(c if c.isalnum() else "-" for c in title.lower()))
        if not (run / "seconds").exists():
            seconds = dbp("fit", "--config", CONFIG, f"run={run.name}", f"estimator={estimator}", *overrides)
            dbp("test", f"run={run.name}", "ckpt_path=last", "task.samples=100", "data.batch_size=100")
            (run / "seconds").write_text(f"{seconds}")
        seconds = float((run / "seconds").read_text())
        rows = list(csv.DictReader((run / "metrics.csv").open()))
        last = rows[-1]
        values = [float(last[name]) for name in ("train/elbo", "test/elbo", "test/iwae")]
        print(f"| {title} | {' | '.join(f'{v:.2f}' for v in values)} | {seconds / len(rows):.1f} |", flush=True)


def dbp(*arguments: str) -> float:
    """Runs the command line in a process of its own; returns its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "dbp", *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
