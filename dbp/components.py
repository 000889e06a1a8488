"""The names of all built-in components. Strings only: a class is imported when it is built.

Put a new component into its own file and add its line here, which also puts the class into its package
(`dbp.estimators.Mine`). A plugin package needs no line: it declares an entry point, for example
`[project.entry-points."dbp.estimators"]` with `mine = "my_package:Mine"`.
"""

from typing import Any

from dbp.registry import Catalog, Registry
from dbp.registry.names import BUILTIN

tasks = Registry(
    "task", "tasks", "dbp.tasks.task:Task",
    {
        "slots": "dbp.tasks.slots:Slots",
        "dvae": "dbp.tasks.dvae:DVAE",
        "vae": "dbp.tasks.vae:VAE",
        "sorting": "dbp.tasks.sorting:Sorting",
    },
    hidden=("solver", "estimator", "optimizer", "scheduler"),  # keys of their own in a configuration
)  # fmt: skip
solvers = Registry(
    "solver", "solvers", "dbp.core:Solver",
    {
        "one_hot": "dbp.solvers.choices:OneHot",
        "top_k": "dbp.solvers.choices:TopK",
        "threshold": "dbp.solvers.choices:Threshold",
        "rank": "dbp.solvers.orders:Rank",
        "sort": "dbp.solvers.orders:Sort",
        "permutation": "dbp.solvers.orders:Permutation",
        "grid_path": "dbp.solvers.paths:GridPath",
        "binary": "dbp.solvers.levels:Binary",
        "signum": "dbp.solvers.levels:Signum",
        "any": "dbp.solvers.levels:Or",
        "k_means": "dbp.solvers.clusters:KMeans",
        "graph_path": "dbp.solvers.graphs:GraphPath",
        "spanning_tree": "dbp.solvers.trees:SpanningTree",
        "arborescence": "dbp.solvers.arborescences:Arborescence",
        "matching": "dbp.solvers.matching:Matching",
        "perfect_matching": "dbp.solvers.pairings:PerfectMatching",
        "graph_matching": "dbp.solvers.alignments:GraphMatching",
        "knapsack": "dbp.solvers.packing:Knapsack",
        "tour": "dbp.solvers.tours:Tour",
        "integer_program": "dbp.solvers.programs:IntegerProgram",
    },
)  # fmt: skip
estimators = Registry(
    "estimator", "estimators", "dbp.core:Estimator",
    {
        "identity": "dbp.estimators.straight:Identity",
        "straight_through": "dbp.estimators.straight:StraightThrough",
        "gumbel_softmax": "dbp.estimators.straight:GumbelSoftmax",
        "gumbel_rao": "dbp.estimators.relaxed:GumbelRao",
        "gapped": "dbp.estimators.relaxed:Gapped",
        "zgr": "dbp.estimators.relaxed:ZGR",
        "dab": "dbp.estimators.bridge:DAB",
        "blackbox": "dbp.estimators.difference:Blackbox",
        "imle": "dbp.estimators.difference:IMLE",
        "adaptive_imle": "dbp.estimators.adaptive:AdaptiveIMLE",
        "perturbed": "dbp.estimators.perturbed:Perturbed",
        "score": "dbp.estimators.score:Score",
        "disarm": "dbp.estimators.antithetic:DisARM",
        "arms": "dbp.estimators.antithetic:ARMS",
        "rebar": "dbp.estimators.control:REBAR",
        "relax": "dbp.estimators.control:RELAX",
        "unordered": "dbp.estimators.enumeration:Unordered",
        "exact": "dbp.estimators.enumeration:Exact",
        "simple": "dbp.estimators.subset:SIMPLE",
        "fenchel_young": "dbp.estimators.fenchel_young:FenchelYoung",
        "spo_plus": "dbp.estimators.supervised:SPOPlus",
        "perturbation_gradient": "dbp.estimators.supervised:PerturbationGradient",
        "structured_svm": "dbp.estimators.supervised:StructuredSVM",
        "contrastive": "dbp.estimators.pool:Contrastive",
        "ranking": "dbp.estimators.pool:Ranking",
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
    {
        "mlp": "dbp.networks.mlp:MLP",
        "squared_error": "dbp.networks.values:SquaredError",
        "entrywise": "dbp.networks.entrywise:Entrywise",
    },
)  # fmt: skip
data = Registry(
    "data", "data", "dbp.data.data:Data",
    {
        "slots": "dbp.data.slots:SlotsData",
        "digits": "dbp.data.digits:Digits",
        "mnist": "dbp.data.mnist:MNIST",
        "fashion_mnist": "dbp.data.mnist:FashionMNIST",
        "omniglot": "dbp.data.omniglot:Omniglot",
        "sequences": "dbp.data.sequences:Sequences",
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
