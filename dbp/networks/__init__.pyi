from dbp.networks.entrywise import Entrywise as Entrywise
from dbp.networks.mlp import MLP as MLP
from dbp.networks.values import SquaredError as SquaredError
