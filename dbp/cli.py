"""The command line, `python -m dbp`. Imports torch only after everything that needs no torch has been checked."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dbp import __version__
from dbp.audit import command as audit
from dbp.components import catalog
from dbp.config import KEYS, carried, changes, import_paths, located, over, paths, read, to_yaml, validate
from dbp.errors import Echo, Stopped, UserError, in_short
from dbp.gallery import command as gallery
from dbp.registry import completion, experiments
from dbp.registry.listing import describe, rows, show
from dbp.registry.names import did_you_mean
from dbp.runs.checkpoints import check_changes, config_in
from dbp.runs.parent import watch_starter
from dbp.templates.new import KINDS, new_plugin

STAGES = {
    "fit": "train, and validate after each epoch",
    "validate": "measure a checkpoint on the validation examples",
    "test": "measure a checkpoint on the test examples",
    "predict": "write a checkpoint's predictions for the test examples to output=FILE.npz",
}
CONFIG = ("config", "configs")  # what `list` shows besides components
COMMANDS = [*STAGES, "list", "audit", "plot", "new", "completion"]
RULES = """
overrides are KEY=VALUE, KEY.OPTION=VALUE, or the same with two dashes;
the value is YAML.
  defaults < the configuration in ckpt_path (without --config) < files in order
    < overrides in order
  names of components take effect before options, in whatever order they come;
    of two names for one key the last wins
  naming a different component drops the old one's options; naming the same one
    keeps them
  ${key.option} stands for the value of another option, ${oc.env:NAME} for an
    environment variable

examples
  dbp fit --config dvae/digits estimator=identity trainer.max_epochs=3
  dbp fit --config FILE run=NAME ckpt_path=last
      starts the run, or resumes it when the command is given again
  dbp fit ckpt_path=lightning_logs/version_0/checkpoints/last.ckpt \\
          trainer.max_epochs=20
      resumes in version_0; with run=NAME, in a folder of its own. Changes on
      the command line take effect, those of the optimizer's options too; its
      name cannot change
  dbp test ckpt_path=lightning_logs/version_0/checkpoints/last.ckpt
  dbp list estimator imle
      the options of a component
"""


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports errors in the style of dbp."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"dbp: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns the exit code.

    The code is 0, 2 for an error that the user can mend, or 128 + the number of a signal (Ctrl-C 130, SIGTERM 143).
    """
    if argv is None:
        _find_modules_here()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with in_short():
            return _command(arguments)
    except UserError as error:
        if os.environ.get("DBP_TRACEBACK"):
            raise
        if not isinstance(error, Echo):
            print(f"dbp: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if stopped.rank == 0:
            print(f"{stopped}; to resume: {_again(arguments, Path(stopped.checkpoint))}", file=sys.stderr)
        # Lightning kills all processes when one that it started exits with a nonzero code.
        return 0 if int(os.environ.get("LOCAL_RANK", 0)) else 128 + stopped.number
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:  # Lightning's way out of an interrupted run
        if isinstance(error.__context__, KeyboardInterrupt):
            return 130
        raise
    except BrokenPipeError:  # dbp list | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return 0


def _find_modules_here() -> None:
    """Lets `module:Class` name modules of the current folder when dbp is started as a script, too.

    `python -m dbp` puts the folder first. Here it comes last: a checkout of dbp in it must not replace an installed one
    in the processes that this one starts.
    """
    here = os.getcwd()
    if not getattr(sys.flags, "safe_path", False) and not {"", here} & set(sys.path):
        sys.path.append(here)


def _again(arguments: list[str], checkpoint: Path) -> str:
    """The command that resumes; the original arguments if they name code or paths, which no checkpoint may name."""
    given = ["fit"]
    if import_paths(config := config_in(checkpoint)) or paths(config):
        given = [argument for argument in arguments if not argument.startswith(("ckpt_path=", "--ckpt_path="))]
    return shlex.join(["python", "-m", "dbp", *given, f"ckpt_path={_short(checkpoint)}"])


def _command(argv: list[str]) -> int:
    parser, stages = _parser()
    name = argv[0] if argv else ""
    if name and not name.startswith("-") and name not in COMMANDS:
        raise UserError(f"unknown command {name!r}.{did_you_mean(name, COMMANDS)}\n  commands: {', '.join(COMMANDS)}")
    args, rest = parser.parse_known_args(argv)
    if args.command == "list":
        return _list(args.kind, [*filter(None, [args.name]), *rest], args.check)
    if args.command == "audit":
        return audit.run(rest)
    if args.command == "plot":
        return gallery.run(args.name, rest)
    if args.command == "new":
        return _new(args.name, args.kind, args.folder, rest)
    if args.command == "completion":
        print(completion.script([stages.choices[stage] for stage in STAGES], parser, _words(), args.shell))
        return 0
    return _stage(args.command, args.config, rest, args.print_config)


def _words() -> list[str]:
    """The keys of a configuration, and the names of components after theirs."""
    names = [f"{key}={name}" for key, k in KEYS.items() if k.kind and not k.many for name in catalog[k.kind].claims()]
    return [f"{key}=" for key in KEYS] + names


def _parser() -> tuple[Parser, Any]:
    """The parser, and the action that holds those of the commands."""
    parser = Parser(prog="dbp", description="Train networks that contain a discrete solver.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"dbp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, text in STAGES.items():
        p = commands.add_parser(
            name, help=text, description=f"{text.capitalize()}.", epilog=_epilog(), allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage=f"dbp {name} [--config FILE ...] [KEY=VALUE ...]",
        )  # fmt: skip
        text = "YAML, or a name that `dbp list config` shows; later ones win"
        p.add_argument("-c", "--config", action="append", default=[], metavar="FILE", help=text)
        p.add_argument("--print_config", action="store_true", help="print the complete configuration and stop")
    p = commands.add_parser("list", help="show components, their options and their sources", allow_abbrev=False)
    p.add_argument("kind", nargs="?", metavar="KIND", help=", ".join([*catalog, CONFIG[0]]))
    p.add_argument("name", nargs="?", metavar="NAME", help="show the options of this one, or the file of a config")
    p.add_argument("--check", action="store_true", help="import each component and report failures")
    text = "compare estimators with the exact gradient of a small problem"
    commands.add_parser(
        "audit", help=text, description=f"{text.capitalize()}.", epilog=f"keys:{audit.HELP}", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, usage="dbp audit [KEY=VALUE ...]",
    )  # fmt: skip
    p = commands.add_parser(
        "plot", help="draw an example of a solver", description="Draws a small example: its scores and the decision.",
        allow_abbrev=False, usage=gallery.USAGE,
    )  # fmt: skip
    p.add_argument("what", choices=["solver"])
    p.add_argument("name", metavar="NAME", help=", ".join(catalog["solver"].claims()))
    p = commands.add_parser("new", help="write a plugin package with a working component", allow_abbrev=False)
    p.add_argument("what", choices=["plugin"])
    p.add_argument("name", metavar="NAME", help="name of the package, as dbp-mine")
    p.add_argument("--kind", default="estimator", metavar="KIND", help=", ".join(KINDS))
    p.add_argument("--folder", help="folder to write to (default: NAME)")
    p = commands.add_parser("completion", help="print a script that completes commands in a shell", allow_abbrev=False,
                            description="Prints a script; bash: eval \"$(dbp completion bash)\"")  # fmt: skip
    p.add_argument("shell", choices=completion.SHELLS)
    return parser, commands


def _epilog() -> str:
    table = []
    for name, key in KEYS.items():
        table.append((name, key.help))
        if key.kind:
            table.append(("", ", ".join(catalog[key.kind].claims())))
    return f"keys:\n{rows(table)}\n{RULES}"


def _stage(stage: str, files: list[str], overrides: list[str], print_config: bool) -> int:
    from dbp.runs.folder import find_checkpoint

    given = read(files, overrides)
    where = located(over(given))
    checkpoint = None if print_config and where["ckpt_path"] is None else find_checkpoint(where, stage)
    base = config_in(checkpoint) if checkpoint else {}
    if checkpoint and not base and given.get("task") is None:
        raise UserError(f"ckpt_path={checkpoint}: not written by dbp (no configuration in it); give a --config as well")
    config = validate(over(given, None if files else base))
    if print_config:
        print(to_yaml(config), end="")
        return 0
    _check(stage, config, base)
    changed = changes(carried(base), carried(config)) if stage == "fit" else []
    if changed and int(os.environ.get("LOCAL_RANK", 0)) == 0:
        print("\n  ".join([f"resuming from {checkpoint} with a changed configuration:", *changed]))
    return _run(stage, config, checkpoint)


def _check(stage: str, config: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Raises, before torch is imported, the errors that would end the run later."""
    if stage == "predict":
        output = Path(config["output"] or "")
        if output.suffix != ".npz":
            raise UserError(f"predict writes an .npz file: give output=FILE.npz, got {config['output']!r}")
        if not output.parent.is_dir():
            raise UserError(f"output={output}: there is no folder {output.parent}")
    for name in config["callbacks"] if stage == "fit" else ():
        catalog["callback"].require(name)
    for name in config["loggers"] if stage == "fit" else ():
        catalog["logger"].require(name)
    if stage == "fit" and base:
        check_changes(base, config)
    shared, restarts = (os.environ.get(f"TORCHELASTIC_{name}") for name in ("USE_AGENT_STORE", "MAX_RESTARTS"))
    if stage == "fit" and shared == "True" and restarts != "0":
        raise UserError(
            "--max-restarts: give torchrun TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment\n"
            "  otherwise restarted processes look for those that died, and hang or fail"
        )


def _run(stage: str, config: Mapping[str, Any], checkpoint: Path | None) -> int:
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("dbp").setLevel(logging.INFO)
    # Without it, torch's threads spin while they wait; on shared cores that makes a step many times longer.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    watch_starter()
    if stage == "fit" and "SLURM_JOB_ID" in os.environ:
        # SLURM's warning kills a process without a handler: block it until training, and ignore it afterwards.
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    from pytorch_lightning.utilities import rank_zero_only

    from dbp.runs import run

    if stage == "fit":
        result = run.fit(config, checkpoint)
    elif stage == "predict" and checkpoint:
        result = run.predict(config, checkpoint)
    elif checkpoint:
        result = run.evaluate(stage, config, checkpoint)
    rank_zero_only(_report)(stage, config, result)
    return 0


def _report(stage: str, config: Mapping[str, Any], result: Any) -> None:
    width = max(map(len, result.metrics), default=0)
    for name, value in sorted(result.metrics.items()):
        print(f"{name:<{width}}  {value:.6g}")
    for path in result.pictures:
        print(f"picture: {_short(path)}")
    if stage == "predict":
        print(f"predictions: {config['output']}")
    elif result.folder and stage == "fit":
        files = [f"{name}: {_short(path)}" for name, path in (("best", result.best), ("last", result.last)) if path]
        print("  ".join([f"run: {_short(result.folder)}", *files]))


def _short(path: object) -> str:
    return os.path.relpath(str(path))


def _list(kind: str | None, names: list[str], check: bool) -> int:
    kinds = {**catalog, **{registry.plural: registry for registry in catalog.values()}}
    if kind is not None and kind not in (*kinds, *CONFIG):
        hint = did_you_mean(kind, [*kinds, *CONFIG])
        raise UserError(f"unknown kind {kind!r}.{hint}\n  kinds: {', '.join([*catalog, CONFIG[0]])}")
    if len(names) > 1 or (names and names[0].startswith("-")):
        raise UserError(f"unexpected {names[-1]!r}; usage: dbp list [KIND [NAME]] [--check]")
    if kind in CONFIG:
        print(experiments.listing(*names))
        return 0
    if kind and names:
        running = f"\n\nkernels: {_kernels()}" if kinds[kind].kind == "solver" else ""
        print(describe(kinds[kind], names[0]) + running)
        return 0
    failed = 0
    for registry in [kinds[kind]] if kind else catalog.values():
        text, failures = show(registry, check, f"; kernels: {_kernels()}" if registry.kind == "solver" else "")
        print(text)
        failed += failures
    if kind is None:
        print(experiments.listing())
    return 1 if failed else 0


def _new(name: str, kind: str, folder: str | None, rest: list[str]) -> int:
    if rest:
        raise UserError(f"unexpected {rest[0]!r}; usage: dbp new plugin NAME [--kind KIND] [--folder FOLDER]")
    root = _short(new_plugin(name, kind, folder))
    print(f"{root}: a package with a working component; try\n  pip install -e {root} && pytest {root}")
    return 0


def _kernels() -> str:
    from dbp.native import loader

    return loader.status()
