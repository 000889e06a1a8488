"""`new plugin` writes packages whose tests pass as they are, and `pytest --dbp-plugin` checks what is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dbp.cli import main
from dbp.errors import UserError
from dbp.templates.new import KINDS, new_plugin

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A package of each kind, and a folder in which they are installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    folders = [new_plugin(f"dbp-made-{kind}", kind, source / kind) for kind in KINDS]
    copies = [
        shutil.copytree(folder, target.with_name(f"copy-{folder.name}")) for folder in folders
    ]  # pip builds there
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", target, *copies], check=True)
    return source, target


def python(*args, path, cwd):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [path, ROOT])),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # dbp's is named below, whether dbp is installed or not
    }
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_every_package_passes_its_tests_and_the_checks_of_its_plugin(packages):
    source, target = packages
    names = [f"dbp-made-{kind}" for kind in KINDS]
    tests = [source / kind / "tests" for kind in KINDS]
    plugin = ["-p", "dbp.testing.plugin", *(f"--dbp-plugin={name}" for name in names)]
    done = python("-m", "pytest", "-q", "-rs", "-W", "error", "-p", "no:cacheprovider", *tests, *plugin,
                  path=target, cwd=source)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_the_command_line_finds_them(packages):
    source, target = packages
    code = f"from dbp.components import catalog; print(*(catalog[k].claim('made_' + k).source for k in {list(KINDS)}))"
    done = python("-c", code, path=target, cwd=source)
    assert done.stdout.split() == [word for kind in KINDS for word in (f"dbp-made-{kind}", "0.1.0")], done.stderr


def test_a_package_is_complete(packages):
    source, _ = packages
    files = {str(path.relative_to(source / "noise")) for path in (source / "noise").rglob("*") if path.is_file()}
    assert files >= {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        ".github/workflows/test.yml",
        "src/dbp_made_noise.py",
        "tests/test_dbp_made_noise.py",
    }
    for kind in KINDS:
        readme = (source / kind / "README.md").read_text()
        assert f"dbp list {kind} made_{kind}" in readme
        assert "$" not in readme


def test_the_code_is_formatted_and_clean(packages):
    pytest.importorskip("ruff")
    source, _ = packages
    for command in (["check", "--select", "E,F,I,B,UP,SIM,RUF"], ["format", "--check"]):
        options = ["--isolated", "--line-length", "120", str(source)]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_pytest_names_the_fault_of_a_plugin(tmp_path):
    new_plugin("dbp-faulty", "noise", tmp_path)
    module = tmp_path / "src" / "dbp_faulty.py"
    module.write_text(module.read_text().replace("math.log(2 * self.scale)", "math.log(self.scale)"))
    info = tmp_path / "dbp_faulty-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dbp-faulty\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[dbp.noises]\nfaulty = dbp_faulty:Faulty\nnormal = dbp_faulty:Faulty\n")
    shutil.rmtree(tmp_path / "tests")
    (tmp_path / "pyproject.toml").unlink()
    module.rename(tmp_path / "dbp_faulty.py")
    pytest_ = ["-m", "pytest", "-q", "-p", "dbp.testing.plugin", "-p", "no:cacheprovider", "--dbp-plugin", "dbp_faulty"]
    done = python(*pytest_, path=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert "[density] Faulty has a density that integrates to 2, not to 1" in done.stdout
    assert "the noise name 'normal' is taken by dbp.noises:Normal (built in)" in done.stdout
    assert "Traceback" not in done.stdout
    skipped = python(*pytest_, "--dbp-skip=density", path=tmp_path, cwd=tmp_path)
    assert "[density]" not in skipped.stdout
    assert "1 failed, 3 passed" in skipped.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [("dbp-nowhere", "no such distribution is installed"), ("pytest", r"declares no entry point in a group dbp.*")],
)
def test_what_is_no_plugin_is_a_usage_error(name, message, tmp_path):
    done = python("-m", "pytest", "-q", "-p", "dbp.testing.plugin", "--dbp-plugin", name, path=tmp_path, cwd=tmp_path)
    assert done.returncode == 4
    assert f"--dbp-plugin {name}: " in done.stderr
    assert message.rstrip("*") in done.stderr


def test_without_the_option_pytest_imports_no_torch(tmp_path):
    (tmp_path / "test_it.py").write_text("import sys\ndef test(): assert 'torch' not in sys.modules\n")
    done = python("-m", "pytest", "-q", "-p", "dbp.testing.plugin", "test_it.py", path=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("dbp-mine", "optimizer", "unknown kind 'optimizer'"),
        ("dbp-mine", "estimater", "Did you mean 'estimator'"),
        ("Mine", "solver", "is not a valid name"),
        ("dbp mine", "solver", "is not a valid name"),
        ("../mine", "solver", "is not a valid name"),
        ("mine-", "solver", "is not a valid name"),
        ("dbp-2x", "solver", "cannot be a name in Python"),
        ("dbp-lambda", "noise", "cannot be a name in Python"),
        ("torch", "solver", "there is a module 'torch' already"),
        ("dbp", "solver", "there is a module 'dbp' already"),
        ("dbp-imle", "estimator", r"the estimator name 'imle' is taken \(built in\)"),
        ("dbp-tensor", "solver", "Tensor has a different meaning in the module"),
    ],
)
def test_wrong_names_are_refused(name, kind, message, tmp_path):
    with pytest.raises(UserError, match=message):
        new_plugin(name, kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        new_plugin("dbp-mine", "solver", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_package_in_the_current_folder_can_be_installed_and_named(tmp_path):
    """The name of the package is also that of its folder, which Python could take for a namespace package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    environment = tmp_path / "env" / "bin" / "python"
    site = subprocess.check_output(
        [environment, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    ours = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    Path(site.strip(), "ours.pth").write_text("\n".join(ours))

    def line(*words):
        done = subprocess.run([*map(str, words)], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    line(environment, "-m", "dbp", "new", "plugin", "mine")
    pip = [environment, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    line(*pip, "--disable-pip-version-check", "-e", "mine")
    (tmp_path / "dbp").write_text("import sys; from dbp.cli import main; sys.exit(main())")
    fit = [
        "fit",
        "task=slots",
        "solver=one_hot",
        "estimator=mine",
        "data=slots",
        "data.size=64",
        "trainer.max_epochs=1",
    ]
    assert "run: " in line(environment, "-m", "dbp", *fit)
    assert "name: mine" in line(environment, "dbp", *fit, "--print_config")
    assert "mine:Mine" in line(environment, "-m", "dbp", "list", "estimator", "--check")


def test_the_command_writes_a_package(tmp_path, capsys):
    assert main(["new", "plugin", "dbp-mine", "--kind=noise", f"--folder={tmp_path / 'mine'}"]) == 0
    assert "pip install -e" in capsys.readouterr().out
    assert (tmp_path / "mine" / "src" / "dbp_mine.py").exists()
    assert main(["new", "plugin", "dbp-mine", "--kind=noise", f"--folder={tmp_path / 'mine'}"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert main(["new", "plugin", "dbp-mine", "more"]) == 2
    assert "unexpected 'more'" in capsys.readouterr().err
