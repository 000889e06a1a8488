"""Every solver has a picture, whoever wrote it."""

from pathlib import Path

import pytest
import torch

from dbp.cli import main
from dbp.components import catalog
from dbp.core import Solver
from dbp.gallery.command import read
from dbp.gallery.examples import EXAMPLES
from dbp.registry.names import BUILTIN

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [name for name, claims in catalog["solver"].claims().items() if claims[0].source == BUILTIN]


class Double(Solver):
    """Another shape than theta's."""

    event_dim = 3

    def solve(self, theta, instance):
        return 2 * theta.sum(-1)


class Edges(Solver):
    """Has a graph, and takes no positive scores."""

    def __init__(self, edges: list):
        self.edges = edges

    def solve(self, theta, instance):
        assert theta.shape == (len(self.edges),)
        return (theta > -0.5).to(theta)


def plot(name, *words):
    assert main(["plot", "solver", name, *words]) == 0


def picture(path):
    data = Path(path).read_bytes()
    assert data.startswith(b"\x89PNG")
    return data


def test_every_solver_has_an_example_a_section_and_a_picture():
    assert EXAMPLES.keys() == set(NAMES)
    text = (DOCS / "solvers.md").read_text()
    for name in NAMES:
        assert f"![](images/solvers/{name}.png)" in text
        assert len(picture(DOCS / "images" / "solvers" / f"{name}.png")) < 60_000


@pytest.mark.parametrize("name", NAMES)
def test_each_is_drawn(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plot(name)
    assert capsys.readouterr().out == f"picture: solver_{name}.png\n"
    assert len(picture(f"solver_{name}.png")) < 60_000


@pytest.mark.parametrize("name", sorted({*NAMES} - {"integer_program"}))  # whose decisions are what the user says
def test_who_decides_by_zeros_and_ones_says_so(name):
    options, _ = read(name, [], EXAMPLES[name].options)
    solver = catalog.build("solver", options)
    y = solver(torch.as_tensor(EXAMPLES[name].scores(options), dtype=torch.float32))
    assert solver.binary == ((y == 0) | (y == 1)).all().item()


def test_options_are_laid_over_those_of_the_example(tmp_path):
    plot("top_k", "solver.k=3", f"output={tmp_path}/same.png")
    plot("top_k", f"output={tmp_path}/default.png")
    plot("top_k", "solver.k=5", f"output={tmp_path}/other.png")
    assert picture(tmp_path / "same.png") == picture(tmp_path / "default.png") != picture(tmp_path / "other.png")
    plot("spanning_tree", "solver.edges=[[0,1],[1,2],[0,2],[2,20]]", f"output={tmp_path}/circle.png")
    plot("k_means", "solver.assign=true", f"output={tmp_path}/assigned.png")
    plot("sort", "solver.k=2", f"output={tmp_path}/short.png")


@pytest.mark.parametrize("words", [["Double"], ["Edges", "solver.edges=[[0,1],[1,2],[3,1]]"]])
def test_a_solver_without_an_example_is_drawn_by_its_kind(words, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    plot(f"test_gallery:{words[0]}", *words[1:], f"output={tmp_path}/x.png")
    picture(tmp_path / "x.png")


def test_what_the_solver_says_is_the_error(capsys):
    assert main(["plot", "solver", "top_k", "solver.k=50"]) == 2
    assert "cannot choose k=50 of 8 scores" in capsys.readouterr().err
