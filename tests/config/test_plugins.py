"""Installed packages add names; broken and clashing ones do no harm before they are named."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"
ARGUMENTS = ["fit", "task=slots", "solver=one_hot", "data=slots", "--print_config"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that both plugins are installed in."""
    root = tmp_path_factory.mktemp("plugins")
    sources = [shutil.copytree(PLUGINS / name, root / name) for name in ("broken", "clash")]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(root / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, sources)], check=True)
    return root / "site"


@pytest.fixture(params=["both", "broken", "clash"], scope="module")
def dbp(request: pytest.FixtureRequest, site: Path) -> "Dbp":
    """The command line with both plugins installed, or one of them."""
    chosen = shutil.copytree(site, site.with_name(f"with_{request.param}"))
    other = {"both": "", "broken": "dbp_clash", "clash": "dbp_broken"}[request.param]
    for path in chosen.glob(f"{other}[.-]*") if other else []:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Dbp(request.param, chosen)


class Dbp:
    def __init__(self, plugins: str, site: Path) -> None:
        self.plugins, self.site = plugins, site

    def __call__(self, *arguments: str) -> tuple[int, str]:
        code = f"import sys; sys.path.insert(0, {str(self.site)!r}); from dbp.cli import main; sys.exit(main())"
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def test_what_is_built_in_works_whatever_is_installed(dbp: Dbp) -> None:
    code, output = dbp(*ARGUMENTS, "estimator=imle")
    assert code == 0
    assert "lam: 1.0" in output
    code, output = dbp("list", "estimators")
    assert code == 0
    assert ("dbp_clash:Other  ignored: a built-in name" in output) == (dbp.plugins != "broken")


def test_a_name_that_two_packages_claim(dbp: Dbp) -> None:
    code, output = dbp(*ARGUMENTS, "estimator=broken")
    assert code == (0 if dbp.plugins == "clash" else 2)
    assert ("claimed 2 times" in output) == (dbp.plugins == "both")
    if dbp.plugins == "both":
        assert "dbp_clash:Other from dbp-clash 9.9" in output
        assert "dbp_broken:Broken from dbp-broken 0.1.0" in output
        assert dbp(*ARGUMENTS, "estimator=dbp_clash:Other")[0] == 0


def test_a_package_that_cannot_be_imported(dbp: Dbp) -> None:
    code, output = dbp("list", "estimators", "--check")
    assert code == 1
    fails = "ModuleNotFoundError: No module named 'a_package_that_is_not_there'" in output
    assert fails == (dbp.plugins == "broken")
    if fails:
        assert "estimator 'broken' (dbp_broken:Broken, dbp-broken 0.1.0) cannot be imported:" in output


@pytest.mark.parametrize(("name", "what"), [("function", "<function function"), ("stranger", "<class 'dbp_clash.Stra")])
def test_an_entry_point_that_is_no_estimator(dbp: Dbp, name: str, what: str) -> None:
    if dbp.plugins == "broken":
        assert f"unknown estimator '{name}'" in dbp(*ARGUMENTS, f"estimator={name}")[1]
        return
    code, output = dbp(*ARGUMENTS, f"estimator={name}")
    assert code == 2
    assert output.startswith(f"dbp: error: estimator '{name}' (dbp_clash:")
    assert f", dbp-clash 9.9) is {what}" in output
    assert "not a subclass of dbp.core.Estimator" in output


def test_options_of_a_plugin_are_checked_and_completed(dbp: Dbp) -> None:
    if dbp.plugins == "broken":
        assert "Did you mean" not in dbp("list", "estimator", "other")[1]
        return
    code, output = dbp(*ARGUMENTS, "estimator=other")
    assert "  noise:\n    name: normal\n    scale: 2.0\n" in output
    code, output = dbp(*ARGUMENTS, "estimator=other", "estimator.strenght=1")
    assert code == 2
    assert "estimator 'other' has no option 'strenght'. Did you mean 'strength'?" in output
