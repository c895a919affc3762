"""A training job: settings that are checked and filled in, and what is built from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax

from fathomx.command_line import sources
from fathomx.command_line.choices import (
    DESCENTS,
    NUMBERS,
    PARAMETERIZATIONS,
    RULES,
    SCHEDULES,
    SOLVERS,
    usual_strength,
)
from fathomx.command_line.defaults import filled_in
from fathomx.command_line.models import MODELS, Generative
from fathomx.command_line.optimization import early_stopping, optimizer_choice
from fathomx.command_line.settings import Settings, own_values
from fathomx.command_line.stored import stored_settings
from fathomx.command_line.validation import validate
from fathomx.data._imagenet import Examples
from fathomx.data._table_files import target_columns
from fathomx.graph.freezing import freeze
from fathomx.graph.network import Network
from fathomx.graph.numbers import rematerialized
from fathomx.graph.statistics import parameter_count
from fathomx.inference import Descent, GaussNewton, Langevin, Solver
from fathomx.layers.parameterization import scale_learning_rates
from fathomx.learning import Backprop, LearningRule, Pose
from fathomx.learning.learner import cosine_adam
from fathomx.learning.optimizer_choice import OptimizerChoice
from fathomx.metrics import Metric, chosen
from fathomx.problem.problem import Problem
from fathomx.problem.strength import HoldStrength
from fathomx.training import EarlyStopping
from fathomx.training.choosing import Choices
from fathomx.training.fit import check_statistics
from fathomx.training.scores import Scores
from fathomx.training.task import Task

# Of Langevin: steps and rate.
_CHAIN, _CHAIN_RATE = 20, 0.01


@dataclasses.dataclass(frozen=True)
class Job(Settings):
    """What `fathomx train` runs, and what `config.json` stores.

    What is `None` in the settings and has a default is filled in, so that the stored configuration
    says what was run. Raises `ValueError` for unknown names (with the nearest valid one), numbers
    out of range, and options that contradict each other.

    ```python
    job = Job(data="mnist", depth=128, epochs=1)
    network = job.network(job.load())
    ```
    """

    def __post_init__(self) -> None:
        validate(self)
        for name, value in filled_in(self).items():
            # Frozen fields are set this way; what is stored should say what was run.
            object.__setattr__(self, name, value)

    def load(self) -> Examples:
        """The data set, in the form that the model takes."""
        found, reading = sources.load(self), MODELS[self.model].reading
        task = sources.task_of(found)
        if task not in reading.tasks:
            able = [name for name, model in MODELS.items() if task in model.reading.tasks]
            raise ValueError(
                f"data {self.data!r} is for task {task!r}, which model {self.model!r} does not "
                f"learn; use model {' or '.join(map(repr, able))}."
            )
        data = self.view(found)
        return data if self.take is None else data.take(self.take)

    def view(self, data: Examples) -> Examples:
        """A data set as the model reads it."""
        return MODELS[self.model].reading.view(data)

    def network(self, data: Examples) -> Network:
        """The network at initialization, built for this data set."""
        chosen = MODELS[self.model]
        options = own_values(self)
        if self.auxiliary and self.inference == "state-descent" and self.activity_rate is not None:
            options["activity_rate"] = self.activity_rate
        assert self.parameterization is not None
        network = chosen.make(
            **chosen.reading.sizes(data),
            depth=self.depth,
            width=self.width,
            activation=self.activation,
            bias=self.bias,
            parameterization=PARAMETERIZATIONS[self.parameterization].make(),
            key=jax.random.key(self.seed),
            **options,
        )
        network = NUMBERS[self.precision](network)
        if self.rematerialize:
            network = rematerialized(network, inputs="host" if self.offload else "device")
        return self._frozen(network) if self.frozen else network

    @property
    def frozen(self) -> list[str]:
        """The names of the entries that do not learn."""
        return [name.strip() for name in (self.freeze or "").split(",") if name.strip()]

    def _frozen(self, network: Network) -> Network:
        network = freeze(network, self.frozen)
        if not parameter_count(network):
            raise ValueError(
                f"freeze {self.freeze!r} leaves nothing to learn; leave out some of the names."
            )
        return network

    def rule(self) -> LearningRule:
        """The learning rule with its solver."""
        if self.learning == "backprop":
            return Backprop()
        precision: HoldStrength | float | None = self.output_precision
        if precision is None:
            assert self.strength is not None
            precision = HoldStrength(self.strength, self.strength_every)
        return RULES[self.learning](self.solver(), precision)

    @property
    def generative(self) -> Generative | None:
        """What is different about a model that generates; `None` of others."""
        return MODELS[self.model].generative

    @property
    def pose(self) -> Pose | None:
        """How a batch becomes a problem, where it is not input and target."""
        return None if self.generative is None else self.generative.pose

    @property
    def scores(self) -> Scores | None:
        """What the network is scored by, where it is not loss and accuracy."""
        return None if self.generative is None else self.generative.scores

    @property
    def judged_by(self) -> tuple[Metric, ...] | None:
        """The metrics that are asked for."""
        return None if self.metrics is None else chosen(target_columns(self.metrics))

    def problem(self, network: Network, data: Examples) -> Problem:
        """The problem of the first batch of the training data."""
        batch = {name: each[: self.batch_size] for name, each in data.arrays("train").items()}
        problem: Problem = Task(data, self.pose).pose(network, batch)
        return problem

    def solver(self) -> Solver:
        """The inference algorithm, with its defaults where nothing else is given."""
        if self.inference == "langevin":
            steps = self.steps or _CHAIN
            rate = self.activity_rate or _CHAIN_RATE
            return Langevin(rate, steps, burn_in=steps // 4)
        if self.inference == "gauss-newton":
            return GaussNewton(iterations=self.steps or MODELS[self.model].steps)
        if self.inference not in DESCENTS:
            return SOLVERS[self.inference]()
        given: dict[str, Any] = {"schedule": SCHEDULES[self.schedule]()}
        if self.activity_rate is not None:
            given["optimizer"] = optax.sgd(self.activity_rate)
        if self.steps is not None:
            given["steps"] = self.steps
        return DESCENTS[self.inference](**given)

    def optimizer_for(self, data: Examples) -> optax.GradientTransformation:
        """That of the settings over all updates of the run: Adam by a cosine unless given.

        At the learning-rate scales of the parameterization (`fx.scale_learning_rates`).
        """
        assert self.learning_rate is not None
        steps = max(1, data.size // self.batch_size) * self.epochs
        if self.learning == "incremental":
            steps *= self.solver().max_steps
        decay = 0.0
        if self.generative is not None and self.inference != "langevin":
            decay = self.generative.decay
        chosen = optimizer_choice(self, self.learning_rate)
        if not decay or self.weight_decay is not None:
            return chosen.make(steps)
        if chosen == OptimizerChoice(self.learning_rate):
            # Decays biases of stacks, too; runs that have begun so go on so.
            return scale_learning_rates(cosine_adam(self.learning_rate, steps, decay))
        kind = "adamw" if self.optimizer == "adam" else self.optimizer
        return dataclasses.replace(chosen, optimizer=kind, weight_decay=decay).make(steps)

    def fitted(self, data: Examples) -> dict[str, Any]:
        """What `fx.fit` and `fx.fit_together` are told beside network, data, rule and seed."""
        return {
            "optimizer": self.optimizer_for(data),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "pose": self.pose,
            "scores": self.scores,
            "metrics": self.judged_by,
            "average": self.average,
            "validate_every": self.validate_every,
            "early_stopping": self.stopping,
            "certify": self.certify,
        }

    @property
    def stopping(self) -> EarlyStopping | None:
        """When training ends early, if it may."""
        return early_stopping(self)

    def check(self, data: Examples, network: Network) -> None:
        """Raises `ValueError` for what only the data and the network show to be impossible."""
        if self.batch_size > data.size:
            raise ValueError(
                f"batch_size is {self.batch_size}, but {data.name!r} has {data.size} training "
                "examples; choose a smaller --batch-size."
            )
        if self.metrics is not None:
            Task(data, self.pose, self.scores, self.judged_by).check(network)
        check_statistics(network, self.batch_size)
        steps = data.size // self.batch_size
        if self.accumulate is not None and self.accumulate > steps:
            raise ValueError(
                f"accumulate is {self.accumulate}, but an epoch has {steps} batches; give at most "
                f"{steps}, or a smaller --batch-size."
            )
        Choices(validate_every=self.validate_every).check(steps)
        self.optimizer_for(data)
        if self.stopping is not None:
            task = Task(data, self.pose, self.scores, self.judged_by)
            self.stopping.check(task.score(network, "validation"))
        solver = self.solver()
        if isinstance(solver, Descent) and self.learning != "backprop":
            solver.check_arrivals(solver.usual_arrivals(network))

    def by_backprop(self) -> Job:
        """The same job with backprop, and without what belongs to inference."""
        return dataclasses.replace(
            self,
            learning="backprop",
            strength=None,
            output_precision=None,
            schedule="uniform",
            steps=None,
            activity_rate=None,
        )

    def for_diagnosis(self, **changes: Any) -> Job:
        """The job whose equilibrium a diagnosis of this job's network looks at.

        `changes` are fields; what they replace takes its options along: another inference those of
        descents, a strength or an output precision the other one.
        """
        config = {**self.config(), "learning": "equilibrium"}
        if self.inference == "langevin":
            # Samples are on their way to nowhere; what is looked at is the equilibrium.
            changes = {"inference": "gauss-newton", **changes}
        if "inference" in changes:
            config |= {"schedule": "uniform", "steps": None, "activity_rate": None}
        if "strength" in changes or "output_precision" in changes:
            config |= {"strength": None, "output_precision": None}
        return Job(**{**config, **changes})

    @property
    def usual_strength(self) -> float | None:
        """The strength that the rule holds unless told otherwise; backprop has none."""
        return usual_strength(self.learning) if self.learning in RULES else None

    def continued(self, **changes: Any) -> Job:
        """The job that begins with what this one has learned.

        `changes` are fields; what they replace takes its options along: other data its size,
        another rule or inference the options of the former one, and the strength that is usual for
        it.
        """
        config = {**self.config(), "source": None, "freeze": None}
        learning = changes.get("learning", self.learning)
        if learning == "backprop":
            config |= dict.fromkeys(("strength", "output_precision"))
        elif learning != self.learning and self.strength == self.usual_strength:
            config["strength"] = None
        if "data" in changes:
            config |= {"image_size": None, "take": None}
        if "inference" in changes or "learning" in changes:
            config |= {"schedule": "uniform", "steps": None, "activity_rate": None}
        if "strength" in changes or "output_precision" in changes:
            config |= {"strength": None, "output_precision": None}
        return Job(**{**config, **changes})

    def config(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Job:
        """The job that a `config.json` describes; keys that are not fields are left out.

        Raises `ValueError` for missing values and for those of a wrong type. Fields that an older
        version did not have take their defaults, and where a float is expected, an integer will do.
        """
        return cls(**stored_settings(config, cls))
