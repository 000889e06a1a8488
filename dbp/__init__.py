"""Discrete backpropagation: gradients for networks that contain a discrete solver.

    layer = dbp.Layer(dbp.solvers.TopK(k=10), dbp.estimators.IMLE(noise=dbp.noises.SumOfGamma(k=10)))
    y = layer(theta)

Nothing is imported before it is used, so that the command line starts without torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
