"""The names of all built-in components. Strings only: a class is imported when it is built.

Put a new component into its own file and add its line here. A plugin package needs no line: it declares an entry
point, for example `[project.entry-points."dbp.estimators"]` with `mine = "my_package:Mine"`.
"""

from typing import Any

from dbp.registry import Catalog, Registry
from dbp.registry.names import BUILTIN

tasks = Registry(
    "task", "tasks", "dbp.tasks.task:Task",
    {
        "slots": "dbp.tasks:Slots",
        "dvae": "dbp.tasks:DVAE",
        "vae": "dbp.tasks:VAE",
        "sorting": "dbp.tasks:Sorting",
    },
    hidden=("solver", "estimator", "optimizer", "scheduler"),  # keys of their own in a configuration
)  # fmt: skip
solvers = Registry(
    "solver", "solvers", "dbp.core:Solver",
    {
        "one_hot": "dbp.solvers:OneHot",
        "top_k": "dbp.solvers:TopK",
        "threshold": "dbp.solvers:Threshold",
        "rank": "dbp.solvers:Rank",
        "sort": "dbp.solvers:Sort",
        "permutation": "dbp.solvers:Permutation",
        "grid_path": "dbp.solvers:GridPath",
        "binary": "dbp.solvers:Binary",
        "signum": "dbp.solvers:Signum",
        "any": "dbp.solvers:Or",
        "k_means": "dbp.solvers:KMeans",
        "graph_path": "dbp.solvers:GraphPath",
        "spanning_tree": "dbp.solvers:SpanningTree",
        "arborescence": "dbp.solvers:Arborescence",
        "matching": "dbp.solvers:Matching",
        "perfect_matching": "dbp.solvers:PerfectMatching",
        "graph_matching": "dbp.solvers:GraphMatching",
        "knapsack": "dbp.solvers:Knapsack",
        "tour": "dbp.solvers:Tour",
        "integer_program": "dbp.solvers:IntegerProgram",
    },
)  # fmt: skip
estimators = Registry(
    "estimator", "estimators", "dbp.core:Estimator",
    {
        "identity": "dbp.estimators:Identity",
        "straight_through": "dbp.estimators:StraightThrough",
        "gumbel_softmax": "dbp.estimators:GumbelSoftmax",
        "gumbel_rao": "dbp.estimators:GumbelRao",
        "gapped": "dbp.estimators:Gapped",
        "zgr": "dbp.estimators:ZGR",
        "dab": "dbp.estimators:DAB",
        "blackbox": "dbp.estimators:Blackbox",
        "imle": "dbp.estimators:IMLE",
        "adaptive_imle": "dbp.estimators:AdaptiveIMLE",
        "perturbed": "dbp.estimators:Perturbed",
        "score": "dbp.estimators:Score",
        "disarm": "dbp.estimators:DisARM",
        "arms": "dbp.estimators:ARMS",
        "rebar": "dbp.estimators:REBAR",
        "relax": "dbp.estimators:RELAX",
        "unordered": "dbp.estimators:Unordered",
        "exact": "dbp.estimators:Exact",
        "simple": "dbp.estimators:SIMPLE",
        "fenchel_young": "dbp.estimators:FenchelYoung",
        "spo_plus": "dbp.estimators:SPOPlus",
        "perturbation_gradient": "dbp.estimators:PerturbationGradient",
        "structured_svm": "dbp.estimators:StructuredSVM",
        "contrastive": "dbp.estimators:Contrastive",
        "ranking": "dbp.estimators:Ranking",
    },
    former={
        "smooth_sort": "it is a relaxation of the solver now; write solver={name: sort, relaxation: neural_sort} (or "
        "permutahedron, soft_sort, network) with estimator=straight_through, or gumbel_softmax to train on relaxed "
        "values",
        "sparse": "it is a relaxation of the solver now; write solver={name: one_hot, relaxation: entmax} or "
        "solver={name: top_k, relaxation: budget} with estimator=straight_through, or gumbel_softmax to train on "
        "relaxed values",
    },
)  # fmt: skip
noises = Registry(
    "noise", "noises", "dbp.core:Noise",
    {
        "normal": "dbp.noises:Normal",
        "gumbel": "dbp.noises:Gumbel",
        "logistic": "dbp.noises:Logistic",
        "uniform": "dbp.noises:Uniform",
        "rademacher": "dbp.noises:Rademacher",
        "sum_of_gamma": "dbp.noises:SumOfGamma",
        "log_normal": "dbp.noises:LogNormal",
    },
)  # fmt: skip
networks = Registry(
    "network", "networks", "torch.nn:Module",
    {"mlp": "dbp.networks:MLP", "squared_error": "dbp.networks:SquaredError", "entrywise": "dbp.networks:Entrywise"},
)  # fmt: skip
data = Registry(
    "data", "data", "dbp.data.data:Data",
    {
        "slots": "dbp.data:SlotsData",
        "digits": "dbp.data:Digits",
        "mnist": "dbp.data:MNIST",
        "fashion_mnist": "dbp.data:FashionMNIST",
        "omniglot": "dbp.data:Omniglot",
        "sequences": "dbp.data:Sequences",
    },
)  # fmt: skip
optimizers = Registry(
    "optimizer", "optimizers", "torch.optim:Optimizer",
    {
        "adam": "torch.optim:Adam",
        "adamw": "torch.optim:AdamW",
        "nadam": "torch.optim:NAdam",
        "radam": "torch.optim:RAdam",
        "rmsprop": "torch.optim:RMSprop",
        "sgd": "torch.optim:SGD",
    },
    hidden=("params",), sparse=True, factory="dbp.tasks.factories:OptimizerFactory",
)  # fmt: skip
schedulers = Registry(
    "scheduler", "schedulers", "torch.optim.lr_scheduler:LRScheduler",
    {
        "cosine": "torch.optim.lr_scheduler:CosineAnnealingLR",
        "exponential": "torch.optim.lr_scheduler:ExponentialLR",
        "linear": "torch.optim.lr_scheduler:LinearLR",
        "multi_step": "torch.optim.lr_scheduler:MultiStepLR",
        "one_cycle": "dbp.tasks.schedules:OneCycle",
        "plateau": "dbp.tasks.schedules:Plateau",
        "sequential": "dbp.tasks.schedules:Sequential",
        "step": "torch.optim.lr_scheduler:StepLR",
        "warmup": "dbp.tasks.schedules:Warmup",
    },
    hidden=("optimizer", "last_epoch", "verbose", "length"), sparse=True,
    factory="dbp.tasks.factories:SchedulerFactory",
)  # fmt: skip
callbacks = Registry(
    "callback", "callbacks", "pytorch_lightning:Callback",
    {
        "best": "dbp.runs.saving:Best",
        "checkpoint": "pytorch_lightning.callbacks:ModelCheckpoint",
        "device_stats": "pytorch_lightning.callbacks:DeviceStatsMonitor",
        "early_stopping": "pytorch_lightning.callbacks:EarlyStopping",
        "ema": "pytorch_lightning.callbacks:EMAWeightAveraging",
        "last": "dbp.runs.saving:Last",
        "lr_finder": "dbp.runs.finder:LearningRateFinder",
        "lr_monitor": "pytorch_lightning.callbacks:LearningRateMonitor",
        "model_summary": "pytorch_lightning.callbacks:ModelSummary",
        "monitor": "dbp.runs.monitor:Monitor",
        "pictures": "dbp.runs.pictures:Pictures",
        "rich_progress": "pytorch_lightning.callbacks:RichProgressBar",
        "swa": "pytorch_lightning.callbacks:StochasticWeightAveraging",
        "timer": "pytorch_lightning.callbacks:Timer",
    },
    hidden=("dirpath",), sparse=True, packages={"device_stats": "psutil", "rich_progress": "rich"},
)  # fmt: skip
loggers = Registry(
    "logger", "loggers", "pytorch_lightning.loggers:Logger",
    {
        "csv": "dbp.runs.loggers:CSVLogger",
        "mlflow": "dbp.runs.trackers:MLFlow",
        "tensorboard": "dbp.runs.loggers:TensorBoard",
        "trackio": "dbp.runs.trackers:Trackio",
        "wandb": "dbp.runs.trackers:WandB",
    },
    hidden=("save_dir", "dir", "name", "version", "row"), sparse=True,  # the run's folder decides
    packages={"mlflow": "mlflow", "trackio": "trackio", "wandb": "wandb"},
)  # fmt: skip

catalog = Catalog(tasks, solvers, estimators, noises, networks, data, optimizers, schedulers, callbacks, loggers)
build = catalog.build


def working(solver: Any, supervised: bool = True) -> list[str]:
    """The built-in estimators that work for a solver with their default options: it offers all that they need.

    Args:
        solver: an instance.
        supervised: name those that need a target, too.
    """
    claims = [found[0] for found in estimators.claims().values() if found[0].source == BUILTIN]
    classes = {claim.name: claim.load() for claim in claims}
    return [
        name
        for name, cls in classes.items()
        if all(map(solver.offers, cls.needs)) and (supervised or not cls.supervised)
    ]
