"""distill: Distilling step-by-step (arXiv 2305.02301) in JAX.

    import distill

    result = distill.train("tickets_step_by_step", {"TRAIN_STEPS": 500}, run_dir="runs/tickets")
    student = distill.load(result.run_dir)
    student.predict(["my fan seems burnt ."])

Importing this package loads neither jax nor tensorflow; its functions do, when they are called. See
docs/api.md for the API and docs/architecture.md for the subpackages.
"""

from distill.api import Student, evaluate, load, train
from distill.api_results import Evaluation, Prediction, TrainResult
from distill.errors import UserError

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "Prediction",
    "Student",
    "TrainResult",
    "UserError",
    "evaluate",
    "load",
    "train",
]
